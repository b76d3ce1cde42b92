"""Read COCO's panoptic files: for each image a png of segment ids, and the segments."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import Id, Images, objects, unknown_category
from mask2former.data.coco.rules import crowd_flag, identifier, join_below, segment_id, whole_number


@dataclass(slots=True)
class CocoSegment:
    """A panoptic segment.

    Attributes:
        id: 1 to 2^24 - 1, the value of its pixels in the png.
        stated: the segment's entry in the file.
    """

    id: int
    category_id: int
    iscrowd: bool
    stated: Mapping[str, Any]


@dataclass(slots=True)
class CocoPanoptic:
    """The panoptic annotation of an image.

    Attributes:
        file_name: name of its png, as stated in the file.
        png: path of its png, below the folder of pngs.
        segments: the segments without a fault.
        listed: ids of all segments with a valid id.
    """

    image_id: Id
    file_name: str
    png: str
    segments: list[CocoSegment]
    listed: set[Any]


def read_panoptic(
    content: Mapping[str, Any], file: str, root: str, images: Images | None, categories: Container[Any], sink: Sink
) -> Iterator[CocoPanoptic]:
    """Read the entries of a panoptic file.

    ``root`` is the folder of pngs; the other arguments are those of
    :func:`~mask2former.data.coco.instances.read_instances`. If ``images`` is None, entries may be of any image, and may
    share a png.
    """
    seen: set[Id] = set()
    pngs: dict[str, Id] = {}
    for position, entry in objects(content, "annotations", file, "", sink):
        image_id = identifier(entry.get("image_id"))
        if image_id is None:
            found = f"is {entry['image_id']!r:.40}, not an id" if "image_id" in entry else "is missing"
            sink.fault(file, f"annotation number {position}: the key 'image_id' {found}")
            continue
        where = f"annotation of image {image_id}"
        if images is not None and image_id not in images:
            sink.fault(file, f"{where}: 'images' does not list it")
            continue
        if image_id in seen:
            sink.fault(file, f"image {image_id} has two annotations; panoptic images have one")
            continue
        seen.add(image_id)
        try:
            png = join_below(root, entry.get("file_name"), where)
        except ValueError as error:
            sink.fault(file, str(error))
            continue
        if images is not None and png in pngs:
            sink.fault(file, f"{where}: its png {entry['file_name']!r} is also that of image {pngs[png]}")
            continue
        pngs[png] = image_id
        segments, listed = _segments(entry, file, where, categories, sink)
        if images is None or images[image_id] is not None:
            yield CocoPanoptic(image_id, entry["file_name"], png, segments, listed)


def _segments(
    entry: Mapping[str, Any], file: str, where: str, categories: Container[Any], sink: Sink
) -> tuple[list[CocoSegment], set[Any]]:
    segments: list[CocoSegment] = []
    listed: set[Any] = set()
    for _, segment in objects(entry, "segments_info", file, f"{where}: ", sink):
        try:
            number = segment_id(segment.get("id"))
            if number in listed:
                raise ValueError(f"segment {number} is listed twice; segment ids have to be unique")
            listed.add(number)
            category = whole_number(segment.get("category_id"))
            if category is None or category not in categories:
                raise ValueError(f"segment {number}: {unknown_category(segment.get('category_id'))}")
            try:
                iscrowd = crowd_flag(segment.get("iscrowd"))
            except ValueError as error:
                raise ValueError(f"segment {number}: {error}") from error
        except ValueError as error:
            sink.fault(file, f"{where}, {error}")
        else:
            segments.append(CocoSegment(number, category, iscrowd, segment))
    return segments, listed
