"""Kinds of coarse masks, made from a true one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

Mask = np.ndarray  # bool [H, W]

# Ranges relative to the object's size, the square root of its pixels.
GROWTH, LOSS = (0.1, 0.4), (0.05, 0.25)
SHIFT = (0.1, 0.3)
CLICK = 0.15  # radius of a click's disc
LEAST_CLICK = 2.0  # pixels


def coarse_mask(mask: Mask, kind: str, rng: np.random.Generator) -> Mask:
    """Draw a coarse mask of a kind, which has at least a pixel.

    Args:
        mask: bool [H, W], the true one, with at least a pixel.
        kind: one of :data:`KINDS`.

    Raises:
        ValueError: there is no such kind, or the mask is empty.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of coarse mask; choose some of {', '.join(KINDS)}.")
    if not mask.any():
        raise ValueError("A coarse mask is made from an object's, but this one has no pixel.")
    return KINDS[kind](mask, rng)


def _box(mask: Mask, rng: np.random.Generator) -> Mask:
    """Fill the bounding box."""
    coarse = np.zeros_like(mask)
    coarse[_span(mask.any(1)), _span(mask.any(0))] = True
    return coarse


def _dilated(mask: Mask, rng: np.random.Generator) -> Mask:
    """Grow by a random number of pixels."""
    return _distance(~mask) <= _at_least_one(rng.uniform(*GROWTH) * _size(mask))


def _eroded(mask: Mask, rng: np.random.Generator) -> Mask:
    """Shrink by a random number of pixels, or by less where nothing would be left."""
    radius = rng.uniform(*LOSS) * _size(mask)
    while radius >= 1:
        coarse = _distance(mask) > _at_least_one(radius)
        if coarse.any():
            return coarse
        radius /= 2
    return mask.copy()


def _shifted(mask: Mask, rng: np.random.Generator) -> Mask:
    """Move into a random direction; what leaves the image is lost."""
    angle, far = rng.uniform(0, 2 * np.pi), max(1.0, rng.uniform(*SHIFT) * _size(mask))
    matrix = np.array([[1, 0, round(far * np.cos(angle))], [0, 1, round(far * np.sin(angle))]], np.float32)
    height, width = mask.shape
    coarse = cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) != 0
    return coarse if coarse.any() else mask.copy()


def _click(mask: Mask, rng: np.random.Generator) -> Mask:
    """Draw a disc around a random pixel of the object."""
    rows, columns = mask.nonzero()
    place = rng.integers(len(rows))
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    radius = max(LEAST_CLICK, CLICK * _size(mask))
    return (y - rows[place]) ** 2 + (x - columns[place]) ** 2 <= radius**2


KINDS: dict[str, Callable[[Mask, np.random.Generator], Mask]] = {
    "box": _box,
    "dilated": _dilated,
    "eroded": _eroded,
    "shifted": _shifted,
    "click": _click,
}


def _size(mask: Mask) -> float:
    return float(np.sqrt(np.count_nonzero(mask)))


def _span(occupied: Any) -> slice:
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1)


def _at_least_one(radius: float) -> int:
    return max(1, round(radius))


def _distance(mask: Mask) -> np.ndarray:
    """Return each pixel's distance to the nearest one outside of a mask, float32 [H, W]; what lies outside of the image
    is no such pixel.

    A disc about every pixel, as of a morphological operation, takes the fourth power of a side: a quarter of a second
    for an image of 1024 x 1024, 4 s for one of twice that.
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
