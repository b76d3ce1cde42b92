"""The parts of a result, one by one: objects, segments, or classes of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mask2former.predictor.arrays import ResultArrays
from mask2former.predictor.coco import category_ids
from mask2former.region import VOID
from mask2former.visualization.painting import mask_box


@dataclass(frozen=True)
class Part:
    """An object (instance), a segment (panoptic) or the pixels of a class (semantic).

    Attributes:
        name: name of its class.
        class_id: number of its class, the place in :attr:`mask2former.predictor.Result.names`.
        category_id: the data set's id of its class, as in COCO files.
        isthing: an object; stuff otherwise.
        mask: [H, W] bool.
        box: (x0, y0, x1, y1) in pixels, right and bottom exclusive; zeros if the mask is empty.
        area: number of pixels.
        score: 0 to 1; None for segments and classes of pixels.
        id: number in the panoptic map; 1 for the best object, 2 for the next; the class's number of pixels' classes.
        track_id: number of its track in a film; None if it has none.
    """

    name: str
    class_id: int
    category_id: int
    isthing: bool
    mask: np.ndarray
    box: tuple[float, float, float, float]
    area: int
    score: float | None
    id: int
    track_id: int | None


def read_parts(result: ResultArrays, task: str) -> list[Part]:
    """Return the parts of a result: the best object first; segments and classes of pixels in their own order."""
    if task == "panoptic":
        return _segments(result)
    return _objects(result) if task == "instance" else _classes(result)


def _segments(result: ResultArrays) -> list[Part]:
    parts = []
    for segment in result.segments:
        mask = result.panoptic == segment["id"]
        known = {key: segment[key] for key in ("name", "class_id", "category_id", "isthing", "area", "id")}
        parts.append(Part(**known, mask=mask, box=_box(mask), score=None, track_id=segment.get("track_id")))
    return parts


def _objects(result: ResultArrays) -> list[Part]:
    ids, found = category_ids(result, "thing"), result.instances
    parts = []
    for row, number in enumerate(found.classes.tolist()):
        x0, y0, x1, y1 = found.boxes[row].tolist()
        parts.append(
            Part(
                name=result.class_name(number),
                class_id=number,
                category_id=ids.get(number, number),
                isthing=True,
                mask=found.masks[row],
                box=(x0, y0, x1, y1),
                area=int(found.masks[row].sum()),
                score=float(found.scores[row]),
                id=row + 1,
                track_id=None if found.tracks is None else int(found.tracks[row]),
            )
        )
    return parts


def _classes(result: ResultArrays) -> list[Part]:
    ids, things = category_ids(result, "stuff"), category_ids(result, "thing").values()
    parts = []
    for number in np.unique(result.semantic).tolist():
        if number == VOID:
            continue
        mask, category = result.semantic == number, ids.get(number, number)
        parts.append(
            Part(
                name=result.class_name(number),
                class_id=number,
                category_id=category,
                isthing=category in things,
                mask=mask,
                box=_box(mask),
                area=int(mask.sum()),
                score=None,
                id=number,
                track_id=None,
            )
        )
    return parts


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = mask_box(mask) or (0, 0, 0, 0)
    return float(left), float(top), float(right), float(bottom)
