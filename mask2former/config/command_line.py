"""Arguments of command lines: those of training, and those that several commands share."""

from __future__ import annotations

import argparse
import math

from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.engine import default_argument_parser

from mask2former.config.load import ConfigError

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
  The usual names of other trainers, which stand for keys (the log says which):
    train_net.py --config-file FILE --epochs 50 --batch 8 --imgsz 512 --lr 0.0001 --device cuda --seed 1
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
    add_aliases(result)
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


# Flag -> (the key that it stands for, its type, its help).
ALIASES = {
    "batch": ("SOLVER.IMS_PER_BATCH", int, "images in a step, over all GPUs"),
    "lr": ("SOLVER.BASE_LR", float, "learning rate"),
    "device": ("MODEL.DEVICE", str, "cpu, cuda, cuda:1"),
    "seed": ("SEED", int, "of all random numbers"),
    "patience": ("SOLVER.PATIENCE", int, "evaluations without a better score after which the training ends"),
}
SIDES = (
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.CROP.SIZE",
    "INPUT.IMAGE_SIZE",
    "INPUT.SIZE_DIVISIBILITY",
)


def add_aliases(parser: argparse.ArgumentParser) -> None:
    """Add flags that stand for keys, by the names that other trainers use."""
    group = parser.add_argument_group("short names of settings (KEY value pairs set any other)")
    group.add_argument("--epochs", type=float, metavar="N", help="passes through the training images: SOLVER.MAX_ITER")
    group.add_argument("--imgsz", type=int, metavar="PIXELS", help="side of training images; test images follow")
    for flag, (key, kind, words) in ALIASES.items():
        group.add_argument(f"--{flag}", type=kind, metavar=kind.__name__.upper(), help=f"{words}: {key}")


def aliased(args: argparse.Namespace) -> list[str]:
    """Return the settings that the flags of :data:`ALIASES` stand for: KEY, value, KEY, value, ...

    Args:
        args: parsed; ``opts`` has the KEY value pairs of the command.

    Raises:
        ConfigError: a flag and a pair set the same key, or a value is out of range.
    """
    settings = []
    for flag, (key, *_) in ALIASES.items():
        value = getattr(args, flag)
        if value is not None:
            _refuse_both(args.opts, flag, key)
            settings += [key, str(value)]
    if args.epochs is not None:
        _refuse_both(args.opts, "epochs", "SOLVER.MAX_ITER")
    for flag in ("epochs", "imgsz", "batch", "lr"):
        value = getattr(args, flag)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{flag} is {value}; it has to be above 0.")
    return settings


def set_image_size(cfg: CfgNode, side: int, given: list[str]) -> str:
    """Make training images of this side, in pixels, and all other sizes in proportion; return a line for the log.

    Args:
        cfg: changed in place. The present side is that of the square of large-scale jitter, of the crop, or without
            one the short side of test images.
        side: the new one.
        given: KEY, value, ... of the command; these keys are left as they are.
    """
    inputs = cfg.INPUT
    if "lsj" in inputs.DATASET_MAPPER_NAME:
        before = inputs.IMAGE_SIZE
    else:
        before = (
            max(inputs.CROP.SIZE) if inputs.CROP.ENABLED and inputs.CROP.TYPE == "absolute" else inputs.MIN_SIZE_TEST
        )
    changes = []
    for key in SIDES:
        node, name = (inputs.CROP, "SIZE") if key == "INPUT.CROP.SIZE" else (inputs, key.split(".")[1])
        relative = name == "SIZE" and inputs.CROP.TYPE != "absolute"
        if key in given[::2] or relative or (name == "SIZE_DIVISIBILITY" and node[name] <= 0):
            continue
        old = node[name]
        node[name] = _in_proportion(old, side, before)
        changes.append(f"{key} {node[name]}")
    return f"--imgsz {side}, instead of {before}: {', '.join(changes)}"


def set_epochs(cfg: CfgNode, epochs: float, given: list[str]) -> str:
    """Set ``SOLVER.MAX_ITER`` to a number of passes through the training images; return a line for the log.

    Args:
        cfg: changed in place; ``SOLVER.STEPS`` too, in proportion.
        epochs: passes; the last one may be a part.
        given: KEY, value, ... of the command; ``SOLVER.STEPS`` among them is left as it is.

    Raises:
        ConfigError: the training data cannot be read.
    """
    try:
        images = len(get_detection_dataset_dicts(cfg.DATASETS.TRAIN, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS))
    except (OSError, KeyError, AssertionError) as error:
        raise ConfigError(f"--epochs counts the training images, and those cannot be read: {error}") from error
    solver, before = cfg.SOLVER, cfg.SOLVER.MAX_ITER
    solver.MAX_ITER = math.ceil(epochs * images / solver.IMS_PER_BATCH)
    if "SOLVER.STEPS" not in given[::2]:
        solver.STEPS = _in_proportion(solver.STEPS, solver.MAX_ITER, before)
    return (
        f"--epochs {epochs:g}: SOLVER.MAX_ITER {solver.MAX_ITER}, for {images} images of "
        f"{', '.join(cfg.DATASETS.TRAIN)} and {solver.IMS_PER_BATCH} a step"
    )


def _refuse_both(opts: list[str], flag: str, key: str) -> None:
    if key in opts[::2]:
        raise ConfigError(f"--{flag} and {key} on the command line set the same: leave one out.")


def _in_proportion(value: int | tuple | list, new: int, old: int) -> int | tuple | list:
    if isinstance(value, (tuple, list)):
        return type(value)(_in_proportion(one, new, old) for one in value)
    return max(1, round(value * new / old)) if value > 0 else value
