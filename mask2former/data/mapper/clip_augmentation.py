"""Random changes of clips: those drawn once for all frames, and those by name, drawn anew for each."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from mask2former.data.mapper.augmentation import ColorJitter, ResizeShortestEdge, SizeOnlyAugmentation, flips

SAMPLINGS = {"choice": "choice", "range": "range", "choice_by_clip": "choice", "range_by_clip": "range"}
NEAR_ONE = (0.9, 1.1)  # ranges of the published augmentations by name
BY_NAME: dict[str, Callable[[], T.Augmentation]] = {
    "brightness": lambda: T.RandomBrightness(*NEAR_ONE),
    "contrast": lambda: T.RandomContrast(*NEAR_ONE),
    "saturation": lambda: T.RandomSaturation(*NEAR_ONE),
    "rotation": lambda: T.RandomRotation(
        [-15, 15], expand=False, center=[(0.4, 0.4), (0.6, 0.6)], sample_style="range"
    ),
}


def clip_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Return the augmentations that are drawn once for a clip: crop, resize, colours (COLOR_AUG_SSD), flip.

    ``choice`` and ``choice_by_clip`` are the same here, and so are ``horizontal`` and ``flip_by_clip``: frames that
    were cropped or flipped each by itself would show no motion that could be learnt.

    Raises:
        ValueError: INPUT.MIN_SIZE_TRAIN_SAMPLING or RANDOM_FLIP have an unknown value.
    """
    inputs = cfg.INPUT
    if inputs.MIN_SIZE_TRAIN_SAMPLING not in SAMPLINGS:
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING is {inputs.MIN_SIZE_TRAIN_SAMPLING!r}; choose one of "
            f"{', '.join(SAMPLINGS)}."
        )
    steps: list[T.Augmentation] = []
    if inputs.CROP.ENABLED:
        steps.append(SizeOnlyAugmentation(T.RandomCrop(inputs.CROP.TYPE, tuple(inputs.CROP.SIZE))))
    sampling = SAMPLINGS[inputs.MIN_SIZE_TRAIN_SAMPLING]
    steps.append(SizeOnlyAugmentation(ResizeShortestEdge(inputs.MIN_SIZE_TRAIN, inputs.MAX_SIZE_TRAIN, sampling)))
    if inputs.COLOR_AUG_SSD:
        steps.append(SizeOnlyAugmentation(ColorJitter(inputs.FORMAT)))
    return steps + flips("horizontal" if inputs.RANDOM_FLIP == "flip_by_clip" else inputs.RANDOM_FLIP)


def frame_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Return the augmentations that INPUT.AUGMENTATIONS names, which are drawn anew for each frame.

    Raises:
        ValueError: an unknown name.
    """
    if unknown := [name for name in cfg.INPUT.AUGMENTATIONS if name not in BY_NAME]:
        raise ValueError(f"INPUT.AUGMENTATIONS has {unknown[0]!r}; choose among {', '.join(BY_NAME)}.")
    return [make() for name, make in BY_NAME.items() if name in cfg.INPUT.AUGMENTATIONS]
