"""Outlines of objects, whose points transforms move and which are drawn at the final size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.data.mapper.label_maps import RunLayer
from mask2former.data.rle.decode import object_runs


@dataclass
class Polygon:
    """One outline of an object (an object may have several).

    Attributes:
        instance_index: number of the object.
        points: [P, 2] float64, (x, y) in pixels; the image spans [0, W] x [0, H].
    """

    instance_index: int
    points: np.ndarray


def draw_outlines(
    polygons: Sequence[Polygon], size: tuple[int, int]
) -> dict[int, tuple[tuple[slice, slice], np.ndarray]]:
    """Draw each object as the union of its outlines; leave out objects without a pixel.

    Args:
        size: (H, W) of the image, which clips the outlines.

    Returns:
        number of the object -> the rows and columns of its bounding box, and its labels (0 or 1, uint8) in the box.
    """
    points_of: dict[int, list[np.ndarray]] = {}
    for polygon in polygons:
        if _may_be_seen(polygon.points, size):
            points_of.setdefault(polygon.instance_index, []).append(polygon.points.reshape(-1))
    drawn = {}
    for instance_index, outlines in points_of.items():
        run_lengths = coco_mask.frPyObjects(outlines, *size)
        united = coco_mask.merge(run_lengths) if len(run_lengths) > 1 else run_lengths[0]
        x, y, width, height = (int(number) for number in coco_mask.toBbox(united))
        if width and height:
            starts, ends = object_runs(united, size)
            layer = RunLayer(size[0], starts, ends, np.ones(len(starts), np.uint8), [instance_index])
            drawn[instance_index] = (np.s_[y : y + height, x : x + width], layer.part(y, y + height, x, x + width))
    return drawn


def _may_be_seen(points: np.ndarray, size: tuple[int, int]) -> bool:
    """Return False only if all points lie beyond one edge by more than a pixel, which rounding cannot bring back."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return bool(right >= -1 and bottom >= -1 and left <= size[1] + 1 and top <= size[0] + 1)
