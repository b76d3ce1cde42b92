"""The words of ``mask2former train``, which are Detectron2's of ``train_net.py`` and more."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_aliases, add_launch, add_overwrite, add_run, add_slurm

EXAMPLES = """
examples:
  Train, then evaluate (on a GPU if there is one, else on the CPU); a configuration of this project, or your own file:
    %(prog)s --config-file quickstart/panoptic
    %(prog)s --config-file configs/quickstart/panoptic.yaml OUTPUT_DIR output/quickstart
  Go on from the last checkpoint in OUTPUT_DIR, if there is one:
    %(prog)s --config-file configs/quickstart/panoptic.yaml --resume OUTPUT_DIR output/quickstart
  Evaluate a checkpoint:
    %(prog)s --config-file FILE --eval-only MODEL.WEIGHTS output/quickstart/model_final.pth
  Change any configuration key, as KEY value pairs at the end:
    %(prog)s --config-file FILE SOLVER.IMS_PER_BATCH 4 SOLVER.BASE_LR 0.00005
  Another batch size, with learning rate and iterations scaled to match (see --scale-lr):
    %(prog)s --config-file FILE --scale-lr SOLVER.IMS_PER_BATCH 4
  Train with a batch size of 16 in the memory of 4 images, by accumulating gradients:
    %(prog)s --config-file FILE SOLVER.IMS_PER_BATCH 16 SOLVER.ACCUMULATE_STEPS 4
  The usual names of other trainers, which stand for keys (the log says which):
    %(prog)s --config-file FILE --epochs 50 --batch 8 --imgsz 512 --lr 0.0001 --device cuda --seed 1
  Eight GPUs of one machine (IMS_PER_BATCH is shared out among them):
    %(prog)s --config-file FILE --num-gpus 8
  Two machines of eight GPUs (the same command on both, except for the rank):
    %(prog)s --config-file FILE --num-gpus 8 --num-machines 2 --machine-rank 0 --dist-url tcp://FIRST:29500
    %(prog)s --config-file FILE --num-gpus 8 --num-machines 2 --machine-rank 1 --dist-url tcp://FIRST:29500
  In processes that torchrun or Slurm's srun has started, nothing more has to be said:
    torchrun --nproc-per-node 8 train_net.py --config-file FILE
  Submit it to Slurm, where it goes on by itself after a time limit or a preemption (see --slurm):
    %(prog)s --slurm partition=gpu,nodes=2,gpus=8,hours=12 --config-file FILE OUTPUT_DIR output/mine

Data sets are in the folder that the environment variable DETECTRON2_DATASETS names ("datasets" by default); see
datasets/README.md. Checkpoints, log.txt, metrics.json and TensorBoard files go to OUTPUT_DIR.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser of training: Detectron2's arguments, and this project's."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Train or evaluate the model of a configuration file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(result)
    result.add_argument("--eval-only", action="store_true", help="evaluate, train nothing")
    add_launch(result)
    add_slurm(result)
    add_overwrite(result)
    add_aliases(result)
    result.add_argument(
        "--scale-lr",
        action="store_true",
        help="with SOLVER.IMS_PER_BATCH n at the end, scale SOLVER.BASE_LR by n / the value in the configuration file "
        "(the linear rule), and iterations (MAX_ITER, STEPS, WARMUP_ITERS, evaluation and checkpoint periods) "
        "inversely; other keys given at the end are left as they are",
    )
    return result
