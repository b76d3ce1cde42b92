"""Read the classes that COCO's files list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import objects
from mask2former.data.coco.rules import whole_number


def read_categories(content: Mapping[str, Any], file: str, panoptic: bool, sink: Sink) -> list[dict[str, Any]]:
    """Read the classes that a file lists, by ascending id: ``id``, ``name``, ``isthing`` and, if given, ``color``.

    The root class of Roboflow's exports is left out: it has id 0, no annotation, and is the supercategory of others.
    """
    listed = [category for _, category in objects(content, "categories", file, "", sink)]
    above = {category.get("supercategory") for category in listed if isinstance(category.get("supercategory"), str)}
    classes: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    for category in listed:
        number, name = whole_number(category.get("id")), category.get("name")
        if number is None or not isinstance(name, str | int | float) or not str(name).strip():
            sink.fault(file, f"'categories': found {category!r:.200}; a class has an integer 'id', and a 'name'")
            continue
        name = str(name)
        if number == 0 and len(listed) > 1 and name in above and not _is_used(content, 0):
            continue
        if number in classes:
            sink.fault(file, f"category {number}: the id occurs twice")
            continue
        if name in names:
            sink.fault(file, f"category {number}: the name {name!r} occurs twice")
            continue
        if panoptic and category.get("isthing") not in (0, 1):
            text = f"category {number}: {name!r} has isthing {category.get('isthing')!r:.40}. Panoptic classes say "
            more = "'isthing': 1 for objects that are counted, 0 for all else (grass, sky, background)"
            sink.fault(file, text + more)
            continue
        names.add(name)
        classes[number] = {
            **category,
            "id": number,
            "name": name,
            "isthing": int(category["isthing"]) if panoptic else 1,
        }
    if not listed:
        sink.fault(file, "'categories' has to list the classes, [{'id': 1, 'name': 'cat'}, ...]")
    return [classes[number] for number in sorted(classes)]


def _is_used(content: Mapping[str, Any], category: int) -> bool:
    entries = content.get("annotations")
    for entry in entries if isinstance(entries, list) else ():
        segments = entry.get("segments_info") if isinstance(entry, dict) else None
        for one in (entry, *(segments if isinstance(segments, list) else ())):
            if isinstance(one, dict) and whole_number(one.get("category_id")) == category:
                return True
    return False
