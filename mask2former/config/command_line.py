"""Arguments of command lines: those of training, and those that several commands share."""

from __future__ import annotations

import argparse

from detectron2.engine import default_argument_parser

TRAINING_EXAMPLES = """
examples:
  Train, then evaluate (on a GPU if there is one, else on the CPU):
    train_net.py --config-file configs/quickstart/panoptic.yaml OUTPUT_DIR output/quickstart
  Go on from the last checkpoint in OUTPUT_DIR, if there is one:
    train_net.py --config-file configs/quickstart/panoptic.yaml --resume OUTPUT_DIR output/quickstart
  Evaluate a checkpoint:
    train_net.py --config-file FILE --eval-only MODEL.WEIGHTS output/quickstart/model_final.pth
  Change any configuration key, as KEY value pairs at the end:
    train_net.py --config-file FILE SOLVER.IMS_PER_BATCH 4 SOLVER.BASE_LR 0.00005
  Another batch size, with learning rate and iterations scaled to match (see --scale-lr):
    train_net.py --config-file FILE --scale-lr SOLVER.IMS_PER_BATCH 4
  Train with a batch size of 16 in the memory of 4 images, by accumulating gradients:
    train_net.py --config-file FILE SOLVER.IMS_PER_BATCH 16 SOLVER.ACCUMULATE_STEPS 4
  Eight GPUs of one machine (IMS_PER_BATCH is shared out among them):
    train_net.py --config-file FILE --num-gpus 8
  Two machines of eight GPUs (the same command on both, except for the rank):
    train_net.py --config-file FILE --num-gpus 8 --num-machines 2 --machine-rank 0 --dist-url tcp://FIRST:29500
    train_net.py --config-file FILE --num-gpus 8 --num-machines 2 --machine-rank 1 --dist-url tcp://FIRST:29500

Data sets are in the folder that the environment variable DETECTRON2_DATASETS names ("datasets" by default); see
datasets/README.md. Checkpoints, log.txt, metrics.json and TensorBoard files go to OUTPUT_DIR.
"""


def training_parser() -> argparse.ArgumentParser:
    """Create the parser of training: Detectron2's arguments, and this project's."""
    result = default_argument_parser(epilog=TRAINING_EXAMPLES)
    result.description = "Train or evaluate the model of a configuration file."
    result.add_argument("--quiet", action="store_true", help="show only progress, scores and warnings on the terminal")
    result.add_argument(
        "--skip-checks", action="store_true", help="start even if the checks find what would end the run"
    )
    add_trust(result)
    add_overwrite(result)
    result.add_argument(
        "--scale-lr",
        action="store_true",
        help="with SOLVER.IMS_PER_BATCH n at the end, scale SOLVER.BASE_LR by n / the value in the configuration file "
        "(the linear rule), and iterations (MAX_ITER, STEPS, WARMUP_ITERS, evaluation and checkpoint periods) "
        "inversely; other keys given at the end are left as they are",
    )
    return result


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an earlier training from the output folder; without, it is moved to earlier/1 there",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow-unsafe-config``, for :func:`mask2former.config.load_config`."""
    parser.add_argument(
        "--allow-unsafe-config",
        action="store_true",
        help="run the code of tags such as !!python/object in the configuration file; only for files that you trust",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``KEY VALUE`` pairs, last on the line."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys to change, at the end"
    )
