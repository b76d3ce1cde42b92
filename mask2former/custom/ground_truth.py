"""Write custom annotations as ground truth that the evaluators accept.

Custom files may list more images than are evaluated, because some are held out of the training set.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.custom.label_files import ignored, save_labels
from mask2former.custom.source import DataError, DataSource
from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Id, Images, read_images
from mask2former.data.coco.ground_truth import Json, image_entry, image_numbers, instance_entries, instance_entry
from mask2former.data.coco.instances import read_instances
from mask2former.data.coco.panoptic import read_panoptic
from mask2former.data.datasets.categories import Category
from mask2former.data.images.read import read_panoptic_ids
from mask2former.data.rle.encode import encode_labels
from mask2former.files import write_text

Ids = Collection[Any] | None  # of the images that count; all if None
SEGMENT = ("category_id", "iscrowd", "area", "bbox")


def write_instances(source: DataSource, only: Ids, categories: Sequence[Category], file: Path) -> None:
    """Write a COCO instance file of the images ``only``, with everything that the evaluation reads."""
    sink, content, name = FirstFault(DataError), source.content(), str(source.annotations)
    listed = read_images(content, name, source.images, sink)
    images = _chosen(listed, only)
    known, numbers = {category["id"] for category in categories}, image_numbers(listed)
    annotations = read_instances(content, name, listed, known, sink)
    entries = instance_entries(annotations, images, numbers, name, sink)
    _write(file, images, numbers, entries, categories)


def write_panoptic(source: DataSource, only: Ids, categories: Sequence[Category], folder: Path) -> dict[str, str]:
    """Write a panoptic file of the images ``only``, an instance file of its things, and semantic label files.

    Returns:
        Paths, by the metadata keys that the evaluators read.
    """
    assert source.pngs is not None
    sink, content, name = FirstFault(DataError), source.content(), str(source.annotations)
    listed = read_images(content, name, source.images, sink)
    images, numbers = _chosen(listed, only), image_numbers(listed)
    things = {category["id"] for category in categories if category["isthing"]}
    ordered = sorted(categories, key=lambda category: not category["isthing"])  # as panoptic metadata numbers them
    number = {category["id"]: place for place, category in enumerate(ordered)}
    blank = ignored(len(categories))
    labels = folder / "semantic"
    labels.mkdir(parents=True, exist_ok=True)
    entries: list[Json] = []
    objects: list[Json] = []
    for entry in read_panoptic(content, name, source.pngs, listed, number, sink):
        if entry.image_id not in images:
            continue
        ids = read_panoptic_ids(entry.png)
        masks = encode_labels(ids.astype(np.int32))
        classes = np.full(ids.shape, blank, np.uint8 if blank < 256 else np.uint16)
        segments = []
        for segment in entry.segments:
            if segment.id not in masks:
                continue
            complete = instance_entry(
                len(objects) + 1, numbers[entry.image_id], segment.category_id, segment.iscrowd, masks[segment.id]
            )
            if not segment.iscrowd:
                classes[ids == segment.id] = number[segment.category_id]
            if segment.category_id in things:
                objects.append(complete)
            segments.append({"id": segment.id} | {key: complete[key] for key in SEGMENT})
        entries.append({"image_id": numbers[entry.image_id], "file_name": entry.file_name, "segments_info": segments})
        label_file = labels / entry.file_name
        label_file.parent.mkdir(parents=True, exist_ok=True)
        save_labels(classes, label_file)
    _write(folder / "panoptic.json", images, numbers, entries, categories)
    _write(folder / "instances.json", images, numbers, objects, [c for c in categories if c["isthing"]])
    paths = {"panoptic_json": str(folder / "panoptic.json"), "panoptic_root": source.pngs}
    if len(entries) == len(images):  # the semantic evaluation needs a label file for every image
        paths["sem_seg_root"] = str(labels)
    return paths | ({"json_file": str(folder / "instances.json")} if things else {})


def _chosen(images: Images, only: Ids) -> Images:
    return {number: image for number, image in images.items() if only is None or number in only}


def _write(
    file: Path, images: Images, numbers: Mapping[Id, int], annotations: list[Json], categories: Sequence[Category]
) -> None:
    listed = [image_entry(image, numbers[image.id]) for image in images.values() if image is not None]
    content = {"images": listed, "annotations": annotations, "categories": list(categories)}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content))
