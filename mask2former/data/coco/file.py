"""Read what all of COCO's files share: json, lists of objects, and the images that they list.

The sink decides what a fault does: see :class:`~mask2former.data.coco.faults.Sink`. An entry with a fault is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.utils.file_io import PathManager

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.rules import identifier, image_size, join_below

Id = int | str


@dataclass(slots=True)
class CocoImage:
    """An image that a file lists.

    Attributes:
        file_name: as stated in the file.
        path: path of the image, below the folder of images.
        size: (H, W) in pixels, as stated in the file.
    """

    id: Id
    file_name: str
    path: str
    size: tuple[int, int]


Images = dict[Id, CocoImage | None]  # by id, in the file's order; None: the entry has a fault


def load_json(path: str, sink: Sink) -> Mapping[str, Any]:
    """Read a COCO file; its content is empty if it has a fault. A byte order mark is skipped."""
    try:
        with PathManager.open(path, "rb") as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        sink.fault(path, "the file is missing")
    except (ValueError, RecursionError) as error:
        sink.fault(path, f"not a json file ({error}). Is it complete?")
    else:
        if isinstance(content, dict):
            return content
        sink.fault(path, f"found a json {type(content).__name__}; a COCO file is an object with 'images'")
    return {"images": [], "annotations": [], "categories": []}


def read_images(content: Mapping[str, Any], file: str, root: str | None, sink: Sink) -> Images:
    """Read the images that a file lists.

    ``root`` is their folder; None if they are named but not opened, as in evaluation: then any ``file_name`` will do.
    """
    images: Images = {}
    paths: dict[str, Id] = {}
    for position, image in objects(content, "images", file, "", sink):
        number = identifier(image.get("id"))
        if number is None:
            sink.fault(
                file, f"'images', number {position}: an id is an integer or a string, not {image.get('id')!r:.40}"
            )
            continue
        where = f"image {number}"
        if number in images:
            sink.fault(file, f"{where}: the id occurs twice")
            continue
        images[number] = None
        try:
            if root is None:
                name = path = str(image.get("file_name", number))
            elif "file_name" not in image:
                raise ValueError(f"{where}: the key 'file_name' is missing; found {sorted(image)}")
            else:
                name, path = image["file_name"], join_below(root, image["file_name"], where)
        except ValueError as error:
            sink.fault(file, str(error))
            continue
        try:
            size = image_size(image.get("height"), image.get("width"))
        except ValueError as error:
            sink.fault(file, f"{where}: {error}")
            continue
        if path in paths:
            sink.fault(file, f"{where}: its file {name!r} is also that of image {paths[path]}", survived=True)
        paths[path] = number
        images[number] = CocoImage(number, name, path, size)
    return images


def objects(
    content: Mapping[str, Any], key: str, file: str, prefix: str, sink: Sink
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a list with their places in it."""
    entries = content.get(key)
    if not isinstance(entries, list):
        found = (
            f"found a {type(entries).__name__}" if key in content else f"{key!r} is missing; found {sorted(content)}"
        )
        sink.fault(file, f"{prefix}{key!r} has to be a list of objects ({found:.200})")
        return
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield position, entry
        else:
            found = type(entry).__name__
            sink.fault(file, f"{prefix}{key!r} has to be a list of objects; number {position} is a {found}")


def unknown_category(category: Any) -> str:
    """Return the text of the fault that an annotation's category is not in the data set."""
    return (
        f"category {category!r:.40} is not one of the data set's. Correct the file, or register it with its own "
        "categories"
    )
