"""Make complete ground truth for evaluators: boxes and areas from masks, unique ids from 1, ``iscrowd`` 0 or 1.

Annotation files may lack what evaluation needs but training does not, or state it wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pycocotools import mask as coco_mask

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import CocoImage, Id, Images
from mask2former.data.coco.instances import CocoInstance
from mask2former.data.coco.measures import measured

Json = dict[str, Any]
EMPTY = "annotations whose mask covers no pixel"


def image_numbers(images: Images) -> dict[Id, int]:
    """Return a number for each image id that evaluators can read: the id itself if all are whole numbers of 31 bits.

    Otherwise images are numbered from 1 in the file's order: COCO's code confuses texts, and hotcoco refuses them.
    """
    fit = all(isinstance(number, int) and 0 <= number < 2**31 for number in images)
    return {number: number if fit else place for place, number in enumerate(images, start=1)}  # type: ignore[misc]


def image_entry(image: CocoImage, number: int) -> Json:
    """Return an image's entry for an annotation file."""
    return {"id": number, "file_name": image.file_name, "height": image.size[0], "width": image.size[1]}


def instance_entries(
    annotations: Iterable[CocoInstance], images: Images, numbers: Mapping[Id, int], file: str, sink: Sink
) -> list[Json]:
    """Return complete entries of an instance file for the annotations of ``images``.

    Ids are 1, 2, 3, ...: with the id 0, or one id twice, pycocotools scores perfect predictions as wrong ones.

    Args:
        annotations: annotations of any images.
        images: the images that count.
        numbers: numbers of the images, see :func:`image_numbers`.
        file: where the annotations are from.
        sink: receives faults; replaced boxes and areas are faults that a training survives. Annotations whose mask is
            empty are left out, because nobody can find them.
    """
    entries: list[Json] = []
    for annotation in annotations:
        image = images.get(annotation.image_id)
        if image is None:
            continue
        try:
            found = measured(annotation, image.size)
        except ValueError as error:
            sink.fault(file, f"{annotation.where}: {error}")
            continue
        for doubt in found.doubts:
            sink.fault(file, f"{annotation.where}: {doubt}", survived=True)
        if found.area <= 0:
            sink.left_out(EMPTY)
            continue
        entries.append(
            {
                "id": len(entries) + 1,
                "image_id": numbers[image.id],
                "category_id": annotation.category_id,
                "iscrowd": int(annotation.iscrowd),
                "area": found.area,
                "bbox": found.bbox,
                "segmentation": found.segmentation,
            }
        )
    return entries


def instance_entry(number: int, image_id: int, category_id: int, iscrowd: bool, mask: Json) -> Json:
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
