"""Panoptic subsets: the part of a panoptic data set that an instance file names.

The evaluation of PQ reads a ground-truth json with exactly the evaluated images. It is extracted from the whole one
when the data set is loaded, and written to a cache folder, because data folders are often read-only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from typing import Any

from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import load_json, read_images
from mask2former.files import write_text


def subset_json_path(name: str, source: str) -> str:
    """Return the path in iopath's cache (``FVCORE_CACHE``) of the annotation file of subset ``name`` of ``source``."""
    cache = os.path.expanduser(os.getenv("FVCORE_CACHE", "~/.torch/iopath_cache"))
    digest = hashlib.sha256(os.path.abspath(source).encode()).hexdigest()[:12]
    return os.path.join(cache, "mask2former", f"{name}_{digest}.json")


def image_ids(json_file: str) -> set[Any]:
    """Return the ids of the images that a COCO file lists."""
    sink = FirstFault()
    return set(read_images(load_json(json_file, sink), json_file, "", sink))


def write_subset(panoptic_json: str, ids: Collection[Any], target: str) -> None:
    """Write the entries of the images ``ids`` in ``panoptic_json`` to ``target``.

    Several processes may do so at once: each writes its own file and moves it into place.
    """
    content = dict(load_json(panoptic_json, FirstFault()))
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    os.makedirs(os.path.dirname(target), exist_ok=True)
    write_text(target, json.dumps(content))
