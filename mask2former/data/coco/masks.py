"""Read masks in COCO's forms: polygons, run lengths (RLE), or a list of run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.data.rle.decode import object_runs, runs_of_mask
from mask2former.data.rle.encode import compress

Runs = tuple[np.ndarray, np.ndarray]  # starts and exclusive ends, see :func:`object_runs`
Shape = list[np.ndarray] | Runs  # polygons [P, 2], or runs


def has_mask(segmentation: Any) -> bool:
    """Return False for annotations that have only a box: ``segmentation`` is missing, null or an empty list."""
    return segmentation is not None and not (isinstance(segmentation, list) and not segmentation)


def read_segmentation(segmentation: Any, size: tuple[int, int]) -> Shape:
    """Read a mask in any of COCO's forms, or a bit mask [H, W].

    Polygons are clipped where they leave the image by more than a pixel; those of fewer than three points cover no
    pixel and are left out.

    Args:
        segmentation: as stated in the file.
        size: (H, W) of the image.

    Returns:
        Points (x, y) [P, 2] float64 of each polygon, or the runs of all pixels.

    Raises:
        ValueError: it has none of these forms, or not the image's size.
    """
    if isinstance(segmentation, dict):
        return object_runs(segmentation, size)
    if isinstance(segmentation, np.ndarray):
        if segmentation.shape != size:
            raise ValueError(f"the mask's size (height, width) is {segmentation.shape}, but the image's is {size}")
        return runs_of_mask(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"found no mask (segmentation is {segmentation!r:.80})")
    if all(isinstance(part, dict) and "counts" in part for part in segmentation):
        return _united([object_runs(part, size) for part in segmentation])
    outlines = [_outline(part) for part in segmentation]
    return [kept for points in outlines if len(points) > 2 and len(kept := _clipped(points, size)) > 2]


def remarks(segmentation: Any, size: tuple[int, int]) -> list[str]:
    """Return texts that say what :func:`read_segmentation` cuts off or leaves out of polygons."""
    if not isinstance(segmentation, list) or any(isinstance(part, dict) for part in segmentation):
        return []
    found = []
    outlines = [_outline(part) for part in segmentation]
    if any(len(points) < 3 for points in outlines):
        found.append("a polygon of fewer than three points is left out")
    if any(len(points) > 2 and _leaves(points, size) for points in outlines):
        found.append(f"a polygon leaves the image of {size[0]} x {size[1]} (height, width) and is clipped")
    return found


def encode_segmentation(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Return the mask of :func:`read_segmentation` as compressed run lengths, ``{"size": [H, W], "counts": text}``.

    Raises:
        ValueError: as :func:`read_segmentation`.
    """
    return encode_shape(read_segmentation(segmentation, size), size)


def encode_shape(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    """Return what :func:`read_segmentation` read as compressed run lengths."""
    if isinstance(shape, tuple):
        return compress(np.stack(shape, -1).ravel(), np.array([2 * len(shape[0])]), size)[0]
    if not shape:
        return compress(np.zeros(0, np.int64), np.zeros(1, np.int64), size)[0]
    united = coco_mask.merge(coco_mask.frPyObjects([points.ravel() for points in shape], *size))
    return {"size": list(size), "counts": united["counts"].decode("ascii")}


def _outline(coordinates: Any) -> np.ndarray:
    try:
        points = np.asarray(coordinates)
    except (ValueError, OverflowError):  # lists of different lengths
        points = np.zeros((0, 0))
    numbers = points.dtype.kind in "iuf" and isinstance(coordinates, list | tuple | np.ndarray)
    if not numbers or points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError(
            f"a polygon has to be a flat list x0, y0, x1, y1, ... of numbers, in a list of polygons; "
            f"found {coordinates!r:.80}"
        )
    return points.astype(np.float64).reshape(-1, 2)


def _leaves(points: np.ndarray, size: tuple[int, int]) -> bool:
    """Tell whether a point lies more than a pixel outside the image."""
    return bool((points < -1).any() or points[:, 0].max() > size[1] + 1 or points[:, 1].max() > size[0] + 1)


def _clipped(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Clip a polygon to the image and a margin of a pixel (Sutherland and Hodgman's algorithm); [0, 2] if none is left.

    Rounding to pixels cannot reach beyond the margin, and pycocotools takes memory for every pixel of an outline, even
    outside the image.
    """
    if not _leaves(points, size):
        return points
    for axis, side in ((0, size[1]), (1, size[0])):
        for sign, limit in ((-1.0, 1.0), (1.0, side + 1.0)):
            inside = sign * points[:, axis] <= limit
            if inside.all():
                continue
            if not inside.any():
                return points[:0]
            edge, kept = sign * limit, []
            for here, there, in_here, in_there in zip(
                points, np.roll(points, -1, 0), inside, np.roll(inside, -1), strict=True
            ):
                if in_here:
                    kept.append(here)
                if in_here != in_there:
                    share = (edge - here[axis]) / (there[axis] - here[axis])
                    crossing = here + share * (there - here)
                    crossing[axis] = edge
                    kept.append(crossing)
            points = np.array(kept)
    return points


def _united(parts: Sequence[Runs]) -> Runs:
    """Return the runs of all pixels that are in any part."""
    starts, ends = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order]) if len(order) else ends
    first = np.ones(len(starts), bool)
    first[1:] = starts[1:] > ends[:-1]
    return starts[first], ends[np.append(np.flatnonzero(first)[1:] - 1, len(ends) - 1)] if len(order) else ends
