"""Resize, crop, flip and pad in one go, with exactly the pixels that single steps would give.

A label image is moved by looking up its rows and its columns, each once, however many transforms there are. If an image
is enlarged and then cropped, only the crop is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
    VFlipTransform,
)
from PIL import Image

NOWHERE = -1  # the source of padding


@dataclass(frozen=True)
class Grid:
    """The source of each pixel of a label image, by rows and columns.

    Attributes:
        rows: [H] integers, the source row of each row; ``NOWHERE`` for padding, which is at the ends.
        columns: [W], likewise.
    """

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, size: tuple[int, int]) -> Grid:
        """Return the grid of an image of (H, W) pixels that has not moved."""
        return cls(np.arange(size[0], dtype=np.int32), np.arange(size[1], dtype=np.int32))

    @property
    def size(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def moved(self, transform: Transform) -> Grid | None:
        """Return the grid after one more transform, equal to its ``apply_segmentation`` on uint8 labels.

        None if the transform does not move whole rows and columns.
        """
        kind = type(transform)
        if kind is T.ResizeTransform and self.size == (transform.h, transform.w):
            return Grid(
                self.rows[_nearest(transform.h, transform.new_h)], self.columns[_nearest(transform.w, transform.new_w)]
            )
        if kind is CropTransform:
            x, y = transform.x0, transform.y0
            return Grid(self.rows[y : y + transform.h], self.columns[x : x + transform.w])
        if kind is HFlipTransform:
            return Grid(self.rows, self.columns[::-1])
        if kind is VFlipTransform:
            return Grid(self.rows[::-1], self.columns)
        if kind is PadTransform and transform.seg_pad_value == 0:
            return Grid(
                np.pad(self.rows, (transform.y0, transform.y1), constant_values=NOWHERE),
                np.pad(self.columns, (transform.x0, transform.x1), constant_values=NOWHERE),
            )
        return self if kind is NoOpTransform else None

    def inside(self) -> tuple[slice, slice]:
        """Return the rows and columns that are not padding."""
        return _occupied(self.rows), _occupied(self.columns)


def gather_2d(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return ``labels[rows][:, columns]``, C-contiguous, taking rows or columns first, whichever is cheaper."""
    if len(rows) <= len(labels):
        labels = labels[rows]
        return labels if _is_all(columns, labels.shape[1]) else labels.take(columns, axis=1)
    if not _is_all(columns, labels.shape[1]):
        labels = labels.take(columns, axis=1)
    return labels[rows]


def flatten_transforms(transform: Transform) -> Iterator[Transform]:
    """Yield the single transforms that ``transform`` consists of, in order."""
    if isinstance(transform, TransformList):
        for step in transform.transforms:
            yield from flatten_transforms(step)
    else:
        yield transform


def move_image(image: np.ndarray, transforms: Sequence[Transform]) -> np.ndarray:
    """Return the image [H, W, C] uint8 after all ``transforms``."""
    left = list(transforms)
    while left:
        step = left.pop(0)
        if left and _goes_row_by_row(image, step) and type(left[0]) is CropTransform:
            image = resize_and_crop(image, step, left.pop(0))
        elif type(step) is HFlipTransform and image.ndim == 3 and image.shape[2] == 3:
            image = cv2.flip(image, 1)  # a view with its columns backwards costs the next step more than this
        else:
            image = step.apply_image(image)
    return image


def resize_and_crop(image: np.ndarray, resize: T.ResizeTransform, crop: CropTransform) -> np.ndarray:
    """Return ``crop.apply_image(resize.apply_image(image))`` at less cost.

    If the height does not shrink, Pillow resizes rows first, rounds to 8 bits, then resizes columns. So rows that no
    pixel of the crop depends on need not be resized, nor columns outside of it in the second pass.

    Args:
        image: [H, W, 3] uint8.
        resize: its new height must not be below the old.
    """
    # A crop may extend beyond the edge, as slices may.
    left, right = crop.x0, min(crop.x0 + crop.w, resize.new_w)
    start, stop = crop.y0, min(crop.y0 + crop.h, resize.new_h)
    top, bottom = _rows_seen(resize, start, stop)
    part = Image.fromarray(image[top:bottom]).resize((resize.new_w, bottom - top), resize.interp)
    part = part.crop((left, 0, right, bottom - top))
    if resize.new_h == resize.h:
        return np.asarray(part)
    # The weights of a row depend on its place in the image, so the part is pasted at its own place.
    canvas = Image.new("RGB", (right - left, resize.h))
    canvas.paste(part, (0, top))
    return np.asarray(canvas.resize((right - left, resize.new_h), resize.interp))[start:stop]


def to_chw(image: np.ndarray, pad: PadTransform | None = None) -> np.ndarray:
    """Return [H, W, C] uint8 as [C, H, W] in memory of its own, padded if ``pad`` is given."""
    height, width, channels = image.shape
    if pad is None:
        result = np.empty((channels, height, width), np.uint8)
        cv2.split(np.ascontiguousarray(image), list(result))
        return result
    size = (height + pad.y0 + pad.y1, width + pad.x0 + pad.x1)
    result = np.full((channels, *size), pad.pad_value, np.uint8)
    for plane, channel in zip(result, cv2.split(np.ascontiguousarray(image)), strict=True):
        plane[pad.y0 : pad.y0 + height, pad.x0 : pad.x0 + width] = channel
    return result


def _goes_row_by_row(image: np.ndarray, step: Transform) -> bool:
    return (
        type(step) is T.ResizeTransform
        and step.interp == Image.Resampling.BILINEAR
        and step.new_h >= step.h  # else Pillow may resize columns first
        and image.dtype == np.uint8
        and image.shape == (step.h, step.w, 3)
    )


def _rows_seen(resize: T.ResizeTransform, start: int, stop: int) -> tuple[int, int]:
    """Return first and last + 1 of the source rows that rows ``start`` to ``stop`` of the resized image depend on."""
    if resize.new_h == resize.h:
        return start, stop
    scale = resize.h / resize.new_h
    reach = max(scale, 1.0) + 1  # Pillow's triangle filter, and one for rounding
    return max(int(start * scale - reach), 0), min(int(stop * scale + reach) + 1, resize.h)


@functools.lru_cache(maxsize=64)  # image and objects ask for the same
def _nearest(length: int, new_length: int) -> np.ndarray:
    """Return [new_length] int32: the source pixel of each in nearest resizing, found by asking Pillow itself."""
    line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    places = np.asarray(line.resize((new_length, 1), Image.Resampling.NEAREST))[0]
    places.flags.writeable = False
    return places


def _occupied(line: np.ndarray) -> slice:
    places = np.flatnonzero(line != NOWHERE)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _is_all(indices: np.ndarray, length: int) -> bool:
    return len(indices) == length and bool((indices == np.arange(length)).all())
