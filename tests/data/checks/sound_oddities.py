"""Sound sets that differ from the usual: name -> (task, seed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from seeds import HEIGHT, LABELS, RUNS, WIDTH, Seed, again, annotation, category, file, gone, ids, mask, saved, segment

from mask2former.data.images.read import panoptic_png


def roboflow(folder: Path, content: dict[str, Any]) -> None:
    content["categories"][1]["supercategory"] = content["categories"][0]["supercategory"] = "shapes"
    content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})


def floats(folder: Path, content: dict[str, Any]) -> None:
    for one in (*content["images"], *content["annotations"], *content["categories"]):
        one.update({key: float(number) for key, number in one.items() if type(number) is int})


def every(**changes: Any) -> Seed:
    return lambda folder, content: [one.update(changes) for one in content["annotations"]]


def void(folder: Path, content: dict[str, Any]) -> None:
    Image.fromarray(panoptic_png(np.where(np.arange(WIDTH) < 30, ids(), 0))).save(folder / "pngs/2.png")
    content["annotations"][1]["segments_info"][1]["area"] = 30 * HEIGHT - 256


ODDITIES: dict[str, tuple[str, Seed]] = {
    "nothing": ("instance", lambda folder, content: None),
    "nothing, panoptic": ("panoptic", lambda folder, content: None),
    "nothing, semantic": ("semantic", lambda folder, content: None),
    "list of run lengths": ("instance", mask([RUNS])),
    "run lengths in floats": ("instance", mask({"size": [32.0, 48.0], "counts": [0.0, 96.0, 1440.0]})),
    "numbers in floats": ("instance", floats),
    "numbers in floats, panoptic": ("panoptic", floats),
    "roboflow's root class": ("instance", roboflow),
    "licenses null": ("instance", lambda folder, content: content.update(licenses=None, info=None)),
    "iscrowd null": ("instance", annotation(iscrowd=None)),
    "iscrowd false": ("instance", annotation(iscrowd=False)),
    "iscrowd null, panoptic": ("panoptic", segment(iscrowd=None)),
    "no area, panoptic": ("panoptic", gone("annotations", 1, "segments_info", 0, "area")),
    "image ids are texts": ("instance", lambda folder, content: text_ids(content)),
    "image ids are texts, panoptic": ("panoptic", lambda folder, content: text_ids(content)),
    "no annotation ids": ("instance", lambda folder, content: [one.pop("id") for one in content["annotations"]]),
    "annotation ids from 0": ("instance", lambda folder, content: number_from_0(content)),
    "no box, no area": ("instance", every(bbox=None, area=None)),
    "a box that is rounded": ("instance", annotation(bbox=[8, 8, 15, 15])),
    "a box alone": ("instance", gone("annotations", 1, "segmentation")),
    "no objects in an image": ("instance", gone("annotations", 1)),
    "a polygon at the very edge": ("instance", mask([[-0.5, -0.5, WIDTH + 0.5, -0.5, WIDTH + 0.5, HEIGHT + 0.5]])),
    "a class without objects": ("instance", again("categories", id=9, name="z")),
    "a name that is a number": ("instance", category(name=7)),
    "void pixels": ("panoptic", void),
    "ignored pixels": ("semantic", file("labels/2.png", saved(np.where(np.arange(WIDTH) < 30, LABELS, LABELS | 255)))),
    "labels of 16 bits": ("semantic", file("labels/2.png", saved(LABELS.astype(np.uint16)))),
    "labels of one bit": ("semantic", file("labels/2.png", lambda path: Image.fromarray(LABELS > 0).save(path))),
    "labels with a palette": ("semantic", file("labels/2.png", lambda path: paletted().save(path))),
    "hidden files": ("semantic", file("labels/.hidden", lambda path: path.write_text("a"))),
}  # fmt: skip


def text_ids(content: dict[str, Any]) -> None:
    for one in content["images"]:
        one["id"] = f"image {one['id']}"
    for one in content["annotations"]:
        one["image_id"] = f"image {one['image_id']}"


def number_from_0(content: dict[str, Any]) -> None:
    for place, one in enumerate(content["annotations"]):
        one["id"] = place


def paletted() -> Image.Image:
    found = Image.fromarray(LABELS, mode="P")
    found.putpalette([9, 8, 7, 200, 100, 50])
    return found
