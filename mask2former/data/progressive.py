"""Images that grow while a training goes on: small ones cost little, and teach the most at the beginning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.utils import comm

MULTIPLE = 32  # pixels; crops and padding of smaller images are multiples of it, as networks need


class Stage(NamedTuple):
    """A stretch of the training with images of one size.

    Attributes:
        start: its first iteration.
        size: sides of the images, relative to the configuration's.
        batch: images of a step, of all processes together.
    """

    start: int
    size: float
    batch: int


def build_stages(cfg: CfgNode) -> tuple[Stage, ...]:
    """Return the stages of ``INPUT.PROGRESSIVE``; a single one if it is not enabled.

    Raises:
        ValueError: sizes and shares that make no schedule.
    """
    node, batch = cfg.INPUT.PROGRESSIVE, cfg.SOLVER.IMS_PER_BATCH
    if not node.ENABLED:
        return (Stage(0, 1.0, batch),)
    sizes, shares = [float(size) for size in node.SIZES], [float(share) for share in node.SHARES]
    if not sizes or len(sizes) != len(shares):
        raise ValueError(f"INPUT.PROGRESSIVE has SIZES {sizes} and SHARES {shares}; each size needs a share.")
    if not all(0 < size <= 1 for size in sizes) or sizes[-1] != 1:
        raise ValueError(f"INPUT.PROGRESSIVE.SIZES are {sizes}; they have to be above 0, at most 1, and end with 1.")
    if not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"INPUT.PROGRESSIVE.SHARES are {shares}; they have to be above 0 and sum up to 1.")
    step = comm.get_world_size() * cfg.SOLVER.ACCUMULATE_STEPS
    stages = []
    for number, size in enumerate(sizes):
        start = round(sum(shares[:number]) * cfg.SOLVER.MAX_ITER)
        # As many pixels as the whole images have, so the same memory; each process has an equal part.
        larger = max(batch, int(batch / size**2) // step * step) if node.SCALE_BATCH else batch
        stages.append(Stage(start, size, larger))
    return tuple(stages)


def stage_at(stages: Sequence[Stage], iteration: int) -> Stage:
    """Return the stage of an iteration."""
    return [stage for stage in stages if stage.start <= iteration][-1]


def rate_factor(stages: Sequence[Stage], iteration: int) -> float:
    """Return the factor on the learning rate: the root of how much larger the stage's batch is than the last one's.

    The noise of a gradient falls with the root of the batch, and Adam's steps have the size of the rate whatever the
    gradient's (arXiv 2205.10287).
    """
    return math.sqrt(stage_at(stages, iteration).batch / stages[-1].batch)


def at_size(cfg: CfgNode, size: float) -> CfgNode:
    """Return a configuration whose training images have sides of ``size`` times those of ``cfg``."""
    if size == 1:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    inputs = cfg.INPUT
    inputs.IMAGE_SIZE = _multiple(inputs.IMAGE_SIZE * size)
    inputs.CANVAS = [_multiple(side * size) + 1 for side in inputs.CANVAS]
    inputs.MIN_SIZE_TRAIN = type(inputs.MIN_SIZE_TRAIN)(max(1, round(side * size)) for side in inputs.MIN_SIZE_TRAIN)
    inputs.MAX_SIZE_TRAIN = max(1, round(inputs.MAX_SIZE_TRAIN * size))
    if inputs.CROP.TYPE.startswith("absolute"):  # others are relative to the image
        inputs.CROP.SIZE = [_multiple(side * size) for side in inputs.CROP.SIZE]
    if inputs.SIZE_DIVISIBILITY > 0:  # often the crop's own size
        inputs.SIZE_DIVISIBILITY = _multiple(inputs.SIZE_DIVISIBILITY * size)
    return cfg


def _multiple(length: float) -> int:
    return max(1, round(length / MULTIPLE)) * MULTIPLE
