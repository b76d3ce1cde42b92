"""Measure masks, and judge the boxes and areas that annotation files state for them.

A stated value is kept if it follows from the outline or from the pixels, which differ by fractions of a pixel: official
files state those of the outline, and published scores depend on them. Any other value is replaced by the mask's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.data.coco.instances import CocoInstance
from mask2former.data.coco.masks import encode_shape, read_segmentation

BOX_TOLERANCE, OF_CROWDS = 0.5, 1.5  # pixels at each side; boxes of COCO's crowds end where the last pixel begins
AREA_TOLERANCE = 0.02, 2.0  # share and pixels; of 832 objects of COCO's none is off by more than half of that
# Further off than these, a value is no rounding but wrong, and said to be.
BOX_DOUBT, AREA_DOUBT = 2.0, (0.1, 10.0)


@dataclass(slots=True)
class Measured:
    """An annotation's mask, box and area, each sound.

    Attributes:
        segmentation: polygons, or compressed run lengths of the image's size.
        bbox: x, y, width, height in pixels.
        area: in pixels; 0 if the mask is empty.
        doubts: texts that say which stated values are wrong. Those that are rounded are replaced in silence.
    """

    segmentation: Any
    bbox: list[float]
    area: float
    doubts: list[str] = field(default_factory=list)


def measured(annotation: CocoInstance, size: tuple[int, int]) -> Measured:
    """Return an annotation's mask with its box and area: those stated where they fit the mask, otherwise the mask's.

    Args:
        annotation: an annotation of an image.
        size: (H, W) of the image.

    Raises:
        ValueError: the mask cannot be read, see :func:`read_segmentation`.
    """
    shape = read_segmentation(annotation.segmentation, size)
    outline = _of_polygons(shape) if isinstance(shape, list) and shape else None
    if outline and _is_whole(annotation.segmentation, outline[0], size):
        found = Measured(annotation.segmentation, *_stated(annotation, [outline]))
        if found.bbox == annotation.bbox and found.area == annotation.area and found.area > 0:
            return found
    mask = _text_of(annotation.segmentation, size) or encode_shape(shape, size)
    pixels = coco_mask.toBbox(mask).tolist(), float(coco_mask.area(mask))
    return Measured(mask, *_stated(annotation, [pixels, *([outline] if outline else [])]))


def _stated(annotation: CocoInstance, of_mask: list[tuple[list[float], float]]) -> tuple[list[float], float, list[str]]:
    """Return box, area and doubts, given possible boxes and areas, of which the first replace those that do not fit."""
    (box, area), doubts = of_mask[0], []
    stated_box, stated_area = annotation.bbox, annotation.area
    if stated_box is not None:
        if any(_is_near(stated_box, one, OF_CROWDS if annotation.iscrowd else BOX_TOLERANCE) for one, _ in of_mask):
            box = [float(value) for value in stated_box]
        elif not any(_is_near(stated_box, one, BOX_DOUBT) for one, _ in of_mask):
            doubts.append(f"its box is {stated_box!r:.80}, that of its mask {[round(value, 2) for value in box]}")
    if stated_area is not None and not annotation.iscrowd:  # a crowd's area takes no part in scores; COCO's are off
        if any(_is_about(stated_area, one, *AREA_TOLERANCE) for _, one in of_mask):
            area = float(stated_area)
        elif not any(_is_about(stated_area, one, *AREA_DOUBT) for _, one in of_mask):
            doubts.append(f"its area is {stated_area!r:.40}, that of its mask {area:g} pixels")
    return box, area, doubts


def _is_about(stated: Any, area: float, share: float, pixels: float) -> bool:
    return _are_numbers([stated]) and abs(stated - area) <= share * area + pixels


def _is_near(stated: Any, box: list[float], tolerance: float) -> bool:
    if not isinstance(stated, list | tuple) or len(stated) != 4 or not _are_numbers(stated):
        return False
    x, y, width, height = stated
    sides, own = (x, y, x + width, y + height), (box[0], box[1], box[0] + box[2], box[1] + box[3])
    near = all(abs(one - other) <= tolerance for one, other in zip(sides, own, strict=True))
    return near and min(width, height) >= 0


def _are_numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and all(abs(value) < 2**53 and math.isfinite(value) for value in values)


def _of_polygons(polygons: list[np.ndarray]) -> tuple[list[float], float]:
    """Return the box around polygons [P, 2], and the sum of their areas."""
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    area = 0.0
    for one in polygons:
        x, y = one[:, 0], one[:, 1]
        area += abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    return [*low.tolist(), *(high - low).tolist()], area


def _is_whole(segmentation: list[Any], box: list[float], size: tuple[int, int]) -> bool:
    """Tell whether polygons can be scored as they are: none has too few points, and none leaves the image."""
    x, y, width, height = box
    inside = x >= -1 and y >= -1 and x + width <= size[1] + 1 and y + height <= size[0] + 1
    return inside and all(isinstance(part, list) and len(part) >= 6 for part in segmentation)


def _text_of(segmentation: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    """Return run lengths that are compressed already; None for all else."""
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), str):
        return {"size": list(size), "counts": segmentation["counts"]}
    return None
