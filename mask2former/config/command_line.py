"""Turn short names of settings on a command line into keys: ``--epochs``, ``--imgsz`` and others."""

from __future__ import annotations

import argparse
import math

from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts

from mask2former.config.load import ConfigError
from mask2former_cli.arguments import ALIASES

SIDES = (
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.CROP.SIZE",
    "INPUT.IMAGE_SIZE",
    "INPUT.SIZE_DIVISIBILITY",
)


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
