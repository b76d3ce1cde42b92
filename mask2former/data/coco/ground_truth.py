"""Sound ground truth for evaluators: boxes and areas from masks, unique ids from 1, ``iscrowd`` 0 or 1.

Annotation files leave out what training does not need and evaluation does, or state it wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycocotools import mask as coco_mask

from mask2former.data.coco.file import CocoImage, Images
from mask2former.data.coco.instances import CocoInstance
from mask2former.data.coco.masks import encode_segmentation

Json = dict[str, Any]


def image_entry(image: CocoImage) -> Json:
    """Return what an annotation file says of an image."""
    return {"id": image.id, "file_name": image.file_name, "height": image.size[0], "width": image.size[1]}


def instance_entries(annotations: Iterable[CocoInstance], images: Images) -> list[Json]:
    """Return an instance file's annotations of ``images``, complete, with masks as run lengths."""
    entries: list[Json] = []
    for annotation in annotations:
        image = images.get(annotation.image_id)
        if image is None:
            continue
        try:
            mask = encode_segmentation(annotation.segmentation, image.size)
        except ValueError as error:
            raise ValueError(f"{annotation.where}: {error}") from error
        entry = instance_entry(len(entries) + 1, image.id, annotation.category_id, annotation.iscrowd, mask)
        entries.append(entry)
    return entries


def instance_entry(number: int, image_id: Any, category_id: int, iscrowd: bool, mask: Json) -> Json:
    """Return one annotation; ``mask`` is compressed run lengths, ``{"size": [H, W], "counts": text}``."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": int(iscrowd),
        "area": int(coco_mask.area(mask)),
        "bbox": coco_mask.toBbox(mask).tolist(),
        "segmentation": mask,
    }
