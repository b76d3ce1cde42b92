"""Convert results to COCO's json files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mask2former.data.rle.encode import encode_masks
from mask2former.predictor.arrays import ResultArrays
from mask2former.region import VOID
from mask2former.visualization.painting import mask_box

Json = dict[str, Any]


def coco_file(results: Sequence[ResultArrays], task: str, image_ids: Sequence[int] | None = None) -> Json:
    """Make one COCO file from the results of several images.

    Args:
        results: results of one predictor.
        task: "panoptic", "instance" or "semantic".
        image_ids: ids of the images; 1, 2, ... if None.
    """
    entries = [coco_entry(result, task, number) for number, result in _numbered(results, image_ids)]
    return join_entries(entries, categories(results[0], task) if results else [])


def join_entries(entries: Sequence[tuple[Json, list[Json]]], categories: list[Json]) -> Json:
    """Make a COCO file from :func:`coco_entry`'s values; number the annotations from 1, except panoptic ones."""
    annotations = [annotation for _, found in entries for annotation in found]
    if annotations and "segments_info" not in annotations[0]:
        annotations = [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)]
    return {"images": [image for image, _ in entries], "annotations": annotations, "categories": categories}


def coco_entry(result: ResultArrays, task: str, image_id: int) -> tuple[Json, list[Json]]:
    """Return one image's entry in ``images`` and its entries in ``annotations`` of a COCO file."""
    height, width = result.image.shape[:2]
    name = result.file_name or f"{image_id:012d}.png"
    image = {"id": image_id, "file_name": name, "height": height, "width": width}
    if task == "panoptic":
        return image, [_panoptic(result, image_id, f"{image_id:012d}.png")]
    if task == "semantic":
        return image, _semantic(result, image_id)
    return image, _instances(result, image_id)


def categories(result: ResultArrays, task: str) -> list[Json]:
    """Return the categories of a task, by ascending id in the data set."""
    metadata = result.metadata
    things, stuff = (category_ids(result, kind) for kind in ("thing", "stuff"))
    whole = {"instance": {}, "semantic": stuff, "panoptic": stuff}[task]
    table: dict[int, Json] = {}
    for kind, ids in (("stuff", whole), ("thing", things if task != "semantic" else {})):
        names, colours = metadata.get(f"{kind}_classes", ()), metadata.get(f"{kind}_colors", ())
        for number, category in ids.items():
            name = names[number] if number < len(names) else str(number)
            entry = {"id": category, "name": name, "isthing": int(kind == "thing")}
            if number < len(colours):
                entry["color"] = [int(value) for value in colours[number]]
            table[category] = entry
    return [table[category] for category in sorted(table)]


def _numbered(results: Sequence[ResultArrays], image_ids: Sequence[int] | None) -> list[tuple[int, ResultArrays]]:
    return list(zip(image_ids or range(1, len(results) + 1), results, strict=True))


def category_ids(result: ResultArrays, kind: str) -> dict[int, int]:
    """Return class number -> category id in the data set, or the number itself if the data set has no ids.

    Args:
        result: its metadata tell.
        kind: "thing" or "stuff", which of panoptic data sets are all classes.
    """
    known = result.metadata.get(f"{kind}_dataset_id_to_contiguous_id", {})
    if known:
        return {number: category for category, number in known.items()}
    return {number: number for number in range(len(result.metadata.get(f"{kind}_classes", ())))}


def _panoptic(result: ResultArrays, image_id: int, png: str) -> Json:
    segments = []
    for segment in result.segments:
        segments.append(
            {
                "id": segment["id"],
                "category_id": segment["category_id"],
                "isthing": int(segment["isthing"]),
                "area": segment["area"],
                "bbox": _box(result.panoptic == segment["id"]),
                "iscrowd": 0,
            }
        )
    return {"image_id": image_id, "file_name": png, "segments_info": segments}


def _instances(result: ResultArrays, image_id: int) -> list[Json]:
    ids, found = category_ids(result, "thing"), result.instances
    return [
        {**_object(mask, image_id, ids.get(number, number)), "score": score}
        for mask, number, score in zip(found.masks, found.classes.tolist(), found.scores.tolist(), strict=True)
    ]


def _semantic(result: ResultArrays, image_id: int) -> list[Json]:
    ids = category_ids(result, "stuff")
    numbers = [number for number in np.unique(result.semantic).tolist() if number != VOID]
    return [_object(result.semantic == number, image_id, ids.get(number, number)) for number in numbers]


def _object(mask: np.ndarray, image_id: int, category: int) -> Json:
    (code,) = encode_masks(np.ascontiguousarray(mask, dtype=bool)[None])
    return {
        "image_id": image_id,
        "category_id": category,
        "segmentation": code,
        "area": int(mask.sum()),
        "bbox": _box(mask),
        "iscrowd": 0,
    }


def _box(mask: np.ndarray) -> list[int]:
    """Return a mask's box [x, y, width, height] in pixels."""
    left, top, right, bottom = mask_box(mask) or (0, 0, 0, 0)
    return [left, top, right - left, bottom - top]
