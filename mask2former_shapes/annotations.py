"""A scene as files: image, panoptic and semantic png, and the records that COCO's json files have of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as run_lengths

from mask2former_shapes.scene import Scene

CATALOG = Path(__file__).parents[1] / "mask2former" / "data" / "datasets" / "catalog" / "quickstart.json"
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 3]
Record = dict[str, Any]


def load_categories() -> list[Record]:
    """The categories (id, name, isthing, color), things first, as their contiguous numbers need them."""
    categories = json.loads(CATALOG.read_text(encoding="utf-8"))
    return sorted(categories, key=lambda category: not category["isthing"])


def save_scene(
    scene: Scene, image_id: int, folder: Path, split: str, categories: list[Record]
) -> tuple[Record, list[Record]]:
    """Write the three pngs of a scene and return (its panoptic annotation, its instance annotations).

    Args:
        scene: to write.
        image_id: also its file name.
        folder: holds images/, panoptic/ and semantic/.
        split: "train" or "val".
        categories: of :func:`load_categories`.
    """
    by_name = {category["name"]: (number, category) for number, category in enumerate(categories)}
    numbers = np.array([by_name[name][0] for name in scene.names], np.uint8)
    colours = _distinct_colours([by_name[name][1]["color"] for name in scene.names])
    name = f"{image_id:06d}.png"
    _write(folder / "images" / split / name, scene.image[:, :, ::-1])
    _write(folder / "panoptic" / split / name, colours[scene.segments][:, :, ::-1])
    _write(folder / "semantic" / split / name, numbers[scene.segments])

    segments, instances = [], []
    for number, category_name in enumerate(scene.names):
        category = by_name[category_name][1]
        mask = np.asfortranarray(scene.segments == number, dtype=np.uint8)
        encoded = run_lengths.encode(mask)
        facts = {
            "category_id": category["id"],
            "area": int(mask.sum()),
            "bbox": [int(side) for side in run_lengths.toBbox(encoded)],
            "iscrowd": 0,
        }
        red, green, blue = (int(c) for c in colours[number])
        segments.append({"id": red + 256 * green + 65536 * blue, **facts})
        if category["isthing"]:
            segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
            instances.append({"image_id": image_id, **facts, "segmentation": segmentation})
    return {"image_id": image_id, "file_name": name, "segments_info": segments}, instances


def save_json(
    file: Path, images: list[Record], annotations: list[Record], categories: list[Record], description: str
) -> None:
    """Write a COCO file."""
    content = {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    file.write_text(json.dumps(content), encoding="utf-8")


def _distinct_colours(wanted: list[list[int]]) -> np.ndarray:
    """[n, 3] uint8: each colour of the list, or, where an earlier one has it, one close by. None is black."""
    colours: list[tuple[int, ...]] = []
    for colour in wanted:
        shade = tuple(colour)
        step = 0
        while shade in colours:
            step += 1
            shade = tuple((c + 23 * step * (-1 if c > 127 else 1)) % 256 for c in colour)
        colours.append(shade)
    return np.array(colours, np.uint8)


def _write(file: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(file), np.ascontiguousarray(image), PNG_OPTIONS):
        raise OSError(f"{file}: the image cannot be written. Does its folder exist, and is there room on the disk?")
