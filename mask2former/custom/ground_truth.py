"""Ground truth as the evaluation wants it, made of what a person has.

Files of one's own leave out what training does not need and evaluation does: areas, boxes, ``iscrowd``, ids from 1. And
they may hold more images than are evaluated, when some were held out of the training ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.custom.label_files import ignored, save_labels
from mask2former.custom.source import DataSource
from mask2former.data.datasets.categories import Category
from mask2former.data.mapper.image_io import join_below, read_panoptic_ids

Ids = Collection[Any] | None  # of the images that count; all when None
Json = dict[str, Any]


def write_instances(source: DataSource, only: Ids, categories: Sequence[Category], file: Path) -> None:
    """COCO's instance file of the images ``only``, with all that the evaluation reads."""
    content = source.content()
    images = _chosen(content, only)
    annotations: list[Json] = []
    for annotation in content["annotations"]:
        image = images.get(annotation["image_id"])
        if image is not None:
            mask = _compressed(annotation["segmentation"], image["height"], image["width"])
            annotations.append(_complete(annotation, mask, len(annotations) + 1))
    _write(file, images, annotations, categories)


def write_panoptic(source: DataSource, only: Ids, categories: Sequence[Category], folder: Path) -> dict[str, str]:
    """The panoptic file of the images ``only``, and what else can be scored: its things, and classes of pixels.

    Returns:
        Paths by the metadata keys of the evaluators.
    """
    assert source.pngs is not None
    content = source.content()
    images = _chosen(content, only)
    entries = [entry for entry in content["annotations"] if entry["image_id"] in images]
    things = {category["id"] for category in categories if category["isthing"]}
    ordered = sorted(categories, key=lambda category: not category["isthing"])  # as panoptic metadata numbers them
    number = {category["id"]: place for place, category in enumerate(ordered)}
    blank = ignored(len(categories))
    labels = folder / "semantic"
    labels.mkdir(parents=True, exist_ok=True)
    annotations: list[Json] = []
    for entry in entries:
        ids = read_panoptic_ids(join_below(source.pngs, entry["file_name"], str(source.annotations)))
        classes = np.full(ids.shape, blank, np.uint8 if blank < 256 else np.uint16)
        for segment in entry["segments_info"]:
            inside = ids == segment["id"]
            segment.setdefault("iscrowd", 0)
            segment["area"] = int(inside.sum())
            if not segment["iscrowd"]:
                classes[inside] = number[segment["category_id"]]
            if segment["category_id"] in things and segment["area"]:
                mask = coco_mask.encode(np.asfortranarray(inside))
                row = {key: segment[key] for key in ("category_id", "iscrowd")} | {"image_id": entry["image_id"]}
                annotations.append(_complete(row, mask, len(annotations) + 1))
        entry["segments_info"] = [segment for segment in entry["segments_info"] if segment["area"]]
        save_labels(classes, labels / entry["file_name"])
    _write(folder / "panoptic.json", images, entries, categories)
    _write(folder / "instances.json", images, annotations, [c for c in categories if c["isthing"]])
    paths = {"panoptic_json": str(folder / "panoptic.json"), "panoptic_root": source.pngs}
    if len(entries) == len(images):  # the evaluation of classes of pixels wants all of them
        paths["sem_seg_root"] = str(labels)
    return paths | ({"json_file": str(folder / "instances.json")} if things else {})


def _chosen(content: Json, only: Ids) -> dict[Any, Json]:
    return {image["id"]: image for image in content["images"] if only is None or image["id"] in only}


def _complete(annotation: Json, mask: Json, number: int) -> Json:
    text = {"size": [int(side) for side in mask["size"]], "counts": mask["counts"].decode("ascii")}
    return {
        "id": number,
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "iscrowd": annotation.get("iscrowd", 0),
        "area": int(coco_mask.area(mask)),
        "bbox": coco_mask.toBbox(mask).tolist(),
        "segmentation": text,
    }


def _compressed(segmentation: Any, height: int, width: int) -> Json:
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, list):
            return coco_mask.frPyObjects(segmentation, height, width)
        return {**segmentation, "counts": counts.encode("ascii")}
    outlines = [points for points in segmentation if len(points) >= 6]
    if not outlines:
        return coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))
    return coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))


def _write(file: Path, images: dict[Any, Json], annotations: list[Json], categories: Sequence[Category]) -> None:
    content = {"images": list(images.values()), "annotations": annotations, "categories": list(categories)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
