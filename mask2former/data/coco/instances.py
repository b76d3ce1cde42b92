"""Read COCO's instance files: objects and crowds."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import Id, Images, objects, unknown_category
from mask2former.data.coco.masks import has_mask
from mask2former.data.coco.rules import crowd_flag, identifier, whole_number

BOXES_ALONE = "annotations without a mask (boxes alone)"


@dataclass(slots=True)
class CocoInstance:
    """An object, or a crowd.

    Attributes:
        id: as stated in the file; None if there is none.
        segmentation: not checked yet, see :func:`mask2former.data.coco.masks.read_segmentation`.
        bbox, area: as stated in the file; None if they are not.
        where: its name in messages.
    """

    id: Any
    image_id: Id
    category_id: int
    iscrowd: bool
    segmentation: Any
    bbox: Any
    area: Any
    position: int

    @property
    def where(self) -> str:
        return _where(self.id, self.position)


def read_instances(
    content: Mapping[str, Any], file: str, images: Images, categories: Container[Any], sink: Sink
) -> Iterator[CocoInstance]:
    """Read the objects of an instance file.

    Args:
        content: content of ``file``.
        images: the images that it lists.
        categories: ids of the classes.
        sink: receives faults. Annotations that have only a box are left out; it is a fault if all are such.
    """
    seen: set[Any] = set()
    total = alone = 0
    for position, annotation in objects(content, "annotations", file, "", sink):
        total += 1
        get = annotation.get
        number, image_id, category = get("id"), get("image_id"), get("category_id")
        # Ids are nearly always ints already, and this loop is where the time goes.
        if type(image_id) is not int:
            image_id = identifier(image_id)
        if type(category) is not int:
            category = whole_number(category)
        if number is not None:
            if type(number) is not int and (number := identifier(number)) is None:
                sink.fault(
                    file, f"'annotations', number {position}: an id is an integer or a string, not {get('id')!r:.40}"
                )
                continue
            if number in seen:
                sink.fault(file, f"annotation {number}: the id occurs twice", survived=True)
            seen.add(number)
        if image_id is None or category is None:
            missing = "image_id" if image_id is None else "category_id"
            found = f"is {get(missing)!r:.40}, not an id" if missing in annotation else "is missing"
            sink.fault(file, f"{_where(number, position)}: the key {missing!r} {found}")
            continue
        if image_id not in images:
            sink.fault(file, f"{_where(number, position)}: its image {image_id!r} is not listed in 'images'")
            continue
        if category not in categories:
            sink.fault(file, f"{_where(number, position)}: {unknown_category(category)}")
            continue
        try:
            iscrowd = crowd_flag(get("iscrowd"))
        except ValueError as error:
            sink.fault(file, f"{_where(number, position)}: {error}")
            continue
        segmentation = get("segmentation")
        if not has_mask(segmentation):
            alone += 1
            sink.left_out(BOXES_ALONE)
            continue
        if images[image_id] is not None:
            yield CocoInstance(number, image_id, category, iscrowd, segmentation, get("bbox"), get("area"), position)
    if alone and alone == total:
        sink.fault(file, f"none of its {total} annotations has a mask ('segmentation'): they are boxes alone")


def _where(number: Any, position: int) -> str:
    return f"annotation number {position}" if number is None else f"annotation {number}"
