"""Augmentation of kMaX-DeepLab and MaX-DeepLab: the image is fitted into a canvas, which it fills in part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform, Transform

from mask2former.data.mapper.augmentation import (
    IMAGE_PAD_VALUE,
    ColorJitter,
    Pad,
    ResizeScale,
    SizeOnlyAugmentation,
    flips,
)

STEP = 0.1  # between MaX-DeepLab's scales


def fit_into_canvas(
    canvas: Sequence[int], min_scale: float, max_scale: float, color_format: str | None, flip: str
) -> list[T.Augmentation]:
    """Return kMaX-DeepLab's augmentations: fit into s times the canvas, crop, change colours, flip, pad.

    Args:
        canvas: (H, W) in pixels.
        min_scale, max_scale: s is drawn between them.
        color_format: "RGB" or "BGR" to change colours; None: leave them.
        flip: see :func:`~mask2former.data.mapper.augmentation.flips`.
    """
    height, width = canvas
    steps: list[T.Augmentation] = [
        SizeOnlyAugmentation(ResizeScale(min_scale, max_scale, height, width)),
        SizeOnlyAugmentation(T.FixedSizeCrop((height, width), pad=False)),
    ]
    if color_format is not None:  # published before the crop, which makes no difference but the time it takes
        steps.append(SizeOnlyAugmentation(ColorJitter(color_format)))
    return [*steps, *flips(flip), SizeOnlyAugmentation(Pad(size=(height, width)))]


def place_in_canvas(
    canvas: Sequence[int], min_scale: float, max_scale: float, color_format: str | None, flip: str
) -> list[T.Augmentation]:
    """Return MaX-DeepLab's augmentations, for arguments see :func:`fit_into_canvas`.

    s is ``min_scale`` plus a multiple of 0.1, and images that do not fill the canvas are padded at a random place.
    """
    steps = fit_into_canvas(canvas, min_scale, max_scale, color_format, flip)
    steps[0] = SizeOnlyAugmentation(SteppedScale(min_scale, max_scale, canvas))
    steps[-1] = SizeOnlyAugmentation(PadSomewhere(canvas))
    return steps


class SteppedScale(T.Augmentation):
    """Fit into s times the canvas (H, W), s out of ``min_scale``, ``min_scale`` + 0.1 ... ``max_scale``."""

    def __init__(self, min_scale: float, max_scale: float, canvas: Sequence[int]) -> None:
        super().__init__()
        self.scales = [min_scale + STEP * step for step in range(round((max_scale - min_scale) / STEP) + 1)]
        self.canvas = tuple(canvas)

    def get_transform(self, image: np.ndarray) -> Transform:
        scale = self.scales[np.random.randint(len(self.scales))]
        return ResizeScale(scale, scale, *self.canvas).get_transform(image)


class PadSomewhere(T.Augmentation):
    """Pad to at least ``size`` (H, W), the image at a random place of it."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        down, right = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if not (down or right):
            return T.NoOpTransform()
        y, x = np.random.randint(down + 1), np.random.randint(right + 1)
        return PadTransform(x, y, right - x, down - y, width, height, pad_value=IMAGE_PAD_VALUE, seg_pad_value=0)
