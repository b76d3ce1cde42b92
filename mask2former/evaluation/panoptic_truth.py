"""Load a panoptic file as ground truth, by the rules that training reads it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Id, load_json, objects
from mask2former.data.coco.panoptic import read_panoptic
from mask2former.data.coco.rules import whole_number


@dataclass(frozen=True)
class PanopticAnnotation:
    """The ground truth of one image.

    Attributes:
        png: path of the image of segment ids, below the folder of pngs.
        segments: each with ``id`` from 1 on, ``category_id``, and ``iscrowd`` 0 or 1.
    """

    png: str
    segments: list[dict[str, int]]


@dataclass(frozen=True)
class PanopticTruth:
    """Ground truth of panoptic quality.

    Attributes:
        annotations: by image id.
        categories: ``id`` and ``isthing``, 0 or 1, of all classes.
        rest: everything in the file but the annotations, as it is.
    """

    annotations: dict[Id, PanopticAnnotation]
    categories: list[dict[str, int]]
    rest: dict[str, Any]


def panoptic_truth(file: str, root: str) -> PanopticTruth:
    """Load a COCO panoptic file; areas and boxes are not read, because the pngs tell them.

    Args:
        file: annotation file; one without ``annotations`` (of a test set) is read as an empty one.
        root: folder of the pngs.

    Raises:
        ValueError: the file breaks a rule of :mod:`mask2former.data.coco`; the message names file and id.
    """
    sink = FirstFault()
    content = dict(load_json(file, sink))
    categories = _categories(content, file, sink)
    annotations = {}
    if "annotations" in content:
        for entry in read_panoptic(content, file, root, None, {one["id"] for one in categories}, sink):
            segments = [
                {"id": one.id, "category_id": one.category_id, "iscrowd": int(one.iscrowd)} for one in entry.segments
            ]
            annotations[entry.image_id] = PanopticAnnotation(entry.png, segments)
        del content["annotations"]
    return PanopticTruth(annotations, categories, content)


def _categories(content: Mapping[str, Any], file: str, sink: FirstFault) -> list[dict[str, int]]:
    found: dict[int, int] = {}
    for _, category in objects(content, "categories", file, "", sink):
        number, is_thing = whole_number(category.get("id")), category.get("isthing")
        if number is None or number in found or is_thing not in (0, 1):
            text = "a class has a unique integer 'id', and 'isthing' 0 or 1"
            sink.fault(file, f"'categories': found {category!r:.200}; {text}")
            continue
        found[number] = int(is_thing)
    return [{"id": number, "isthing": is_thing} for number, is_thing in found.items()]
