"""From the parts of a thing to its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mask2former_shapes.light import Colour
from mask2former_shapes.things.shapes import Part

FINE = 4  # bits below one pixel in OpenCV's coordinates


@dataclass
class Sprite:
    """A painted thing.

    Attributes:
        colour: [h, w, 3] float32.
        mask: [h, w] bool, where it is.
        left, top: of this patch relative to the thing's foot, in pixels of the drawing.
    """

    colour: np.ndarray
    mask: np.ndarray
    left: int
    top: int


def paint(parts: list[Part], size: float, to_light: tuple[float, float], tint: Colour, unit: float) -> Sprite:
    """Paint parts over one another.

    Args:
        parts: of the thing; one whose colour is NaN only shades and rims what is there.
        size: pixels of the drawing in the parts' unit of length.
        to_light: unit vector in the image, y down.
        tint: multiplies colours.
        unit: thickness of rims in pixels of the drawing.
    """
    outlines = [part.points * (size, -size) for part in parts]
    corners = np.concatenate(outlines)
    left, top = (int(np.floor(c)) - 2 for c in corners.min(axis=0))
    right, bottom = (int(np.ceil(c)) + 3 for c in corners.max(axis=0))
    colour = np.zeros((bottom - top, right - left, 3), np.float32)
    covered = np.zeros((bottom - top, right - left), np.uint8)
    base = covered
    for part, outline in zip(parts, outlines, strict=True):
        points = np.round((outline - (left, top)) * (1 << FINE)).astype(np.int32)
        mask = np.zeros_like(covered)
        cv2.fillPoly(mask, [points], 1, shift=FINE)
        if part.clip:
            mask &= base
        else:
            base = mask
        x, y, w, h = cv2.boundingRect(mask)
        if w == 0:
            continue
        window = np.s_[y : y + h, x : x + w]
        _fill(colour[window], mask[window], part, to_light, tint, unit)
        covered |= mask
    return Sprite(colour, covered.astype(bool), left, top)


def _fill(
    colour: np.ndarray, mask: np.ndarray, part: Part, to_light: tuple[float, float], tint: Colour, unit: float
) -> None:
    """Paint one part into its window, in place."""
    inside = mask.astype(bool)
    brightness = np.ones(mask.shape, np.float32)
    if part.round:
        brightness += part.round * _relief(mask, to_light)
    if part.rim:
        depth = cv2.distanceTransform(
            cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), cv2.DIST_L2, 3
        )
        brightness *= 1 - part.rim * np.clip(1.5 - depth[1:-1, 1:-1] / unit, 0, 1)
    under = colour if np.isnan(part.colour[0]) else part.colour * tint
    colour[inside] = np.clip(under * brightness[..., None], 0, 1)[inside]


def _relief(mask: np.ndarray, to_light: tuple[float, float]) -> np.ndarray:
    """[h, w] float32, about -0.5 to 0.4: how far a bulging part of this outline turns to the light."""
    size = max(3, int(0.45 * min(mask.shape)) | 1)
    pad = size
    bulge = cv2.copyMakeBorder(mask.astype(np.float32), pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0.0)
    bulge = cv2.blur(cv2.blur(bulge, (size, size)), (size, size))
    slope_x, slope_y = cv2.Sobel(bulge, cv2.CV_32F, 1, 0), cv2.Sobel(bulge, cv2.CV_32F, 0, 1)
    facing = -(slope_x * to_light[0] + slope_y * to_light[1]) * (size / 14)
    return np.clip(facing, -0.5, 0.4)[pad:-pad, pad:-pad]
