"""Load instances as ground truth that every scorer reads alike, from a COCO file or from a data set's records."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode
from pycocotools.coco import COCO

from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Id, load_json, objects, read_images
from mask2former.data.coco.ground_truth import image_entry, image_numbers, instance_entries
from mask2former.data.coco.instances import read_instances
from mask2former.data.coco.rules import whole_number


@dataclass(frozen=True)
class InstanceTruth:
    """Ground truth of average precision.

    Attributes:
        coco: complete and sound: see :func:`mask2former.data.coco.ground_truth.instance_entries`.
        numbers: image id, as stated -> id of the image in ``coco``.
        source: the file, or the name of the data set.
        has_annotations: False for the files of test sets, which only list images.
    """

    coco: COCO
    numbers: dict[Id, int]
    source: str
    has_annotations: bool

    def image_name(self, image_id: Any) -> str:
        """Return the name of an image, given its id as stated, for messages."""
        image = self.coco.imgs.get(self.numbers.get(image_id))
        return str(image["file_name"] if image else image_id)


def truth_of_file(file: str) -> InstanceTruth:
    """Load a COCO instance file.

    Raises:
        ValueError: the file breaks a rule of :mod:`mask2former.data.coco`; the message names file and id.
    """
    return _sound(load_json(file, FirstFault()), file)


def truth_of_records(records: Iterable[Mapping[str, Any]], metadata: Metadata) -> InstanceTruth:
    """Convert the records of a data set that has no file of its own.

    Args:
        records: Detectron2's data set dicts.
        metadata: metadata of the data set, with ``thing_classes``.

    Raises:
        ValueError: a record breaks a rule of :mod:`mask2former.data.coco`; the message names its image or annotation.
    """
    name = metadata.name
    classes = metadata.get("thing_classes")
    if not classes:
        raise ValueError(f"Data set {name}: its metadata has no thing_classes, which name the classes to score.")
    things = metadata.get("thing_dataset_id_to_contiguous_id") or {place: place for place in range(len(classes))}
    ids = {place: id_ for id_, place in things.items()}
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": ids.get(place, place), "name": text} for place, text in enumerate(classes)]
    for position, record in enumerate(records):
        image_id = record.get("image_id", position)
        content["images"].append({**{k: record.get(k) for k in ("file_name", "height", "width")}, "id": image_id})
        for one in record.get("annotations", ()):
            entry = {key: one.get(key) for key in ("iscrowd", "segmentation")}
            category = one.get("category_id")
            entry.update(image_id=image_id, category_id=ids.get(category, category))
            if one.get("bbox") is not None and one.get("segmentation") is not None:
                entry["bbox"] = _xywh(one["bbox"], one.get("bbox_mode", BoxMode.XYXY_ABS))
            content["annotations"].append({**entry, "id": len(content["annotations"]) + 1})
    return _sound(content, f"data set {name}")


def _xywh(box: Sequence[float], mode: BoxMode) -> list[float]:
    return list(map(float, BoxMode.convert(np.asarray(box, float).tolist(), mode, BoxMode.XYWH_ABS)))


def _sound(content: Mapping[str, Any], source: str) -> InstanceTruth:
    sink = FirstFault()
    images = read_images(content, source, None, sink)
    numbers = image_numbers(images)
    categories = _categories(content, source)
    has_annotations = "annotations" in content
    entries = []
    if has_annotations:
        annotations = read_instances(content, source, images, {one["id"] for one in categories}, sink)
        entries = instance_entries(annotations, images, numbers, source, sink)
        sink.log(source)
    coco = COCO()
    coco.dataset = {
        "images": [image_entry(image, numbers[image.id]) for image in images.values() if image is not None],
        "annotations": entries,
        "categories": categories,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return InstanceTruth(coco, numbers, source, has_annotations)


def _categories(content: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    """Return all categories: names may be numbers, or occur twice, which changes no score."""
    sink, found = FirstFault(), dict[int, dict[str, Any]]()
    for _, category in objects(content, "categories", source, "", sink):
        number = whole_number(category.get("id"))
        if number is None or number in found:
            fault = "is not an integer" if number is None else "occurs twice"
            sink.fault(source, f"'categories': the id {category.get('id')!r:.40} {fault}")
            continue
        found[number] = {"id": number, "name": str(category.get("name", number))}
    return list(found.values())
