"""Small sound data sets, and changes that make one thing in them wrong: ``seed(folder, content)``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH, NUMBER = 32, 48, 4
SQUARE = [8, 8, 24, 8, 24, 24, 8, 24]  # 256 pixels
RUNS = {"size": [HEIGHT, WIDTH], "counts": [0, 96, 1440]}
Seed = Callable[[Path, dict[str, Any]], Any]


def instances() -> dict[str, Any]:
    """A square in each image; in the first, three columns and a crowd too."""
    facts = {"category_id": 1, "iscrowd": 0, "area": 256, "bbox": [8, 8, 16, 16], "segmentation": [SQUARE]}
    runs = {"category_id": 4, "image_id": 1, "area": 96, "bbox": [0, 0, 3, HEIGHT], "segmentation": RUNS}
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(1, NUMBER + 1)],
        "categories": [{"id": 1, "name": "square"}, {"id": 4, "name": "column"}],
        "annotations": [
            *({"id": 10 + n, "image_id": n, **copy.deepcopy(facts)} for n in range(1, NUMBER + 1)),
            {"id": 20, "iscrowd": 0, **copy.deepcopy(runs)},
            {"id": 21, "iscrowd": 1, **copy.deepcopy(runs)},
        ],
    }


def panoptic() -> dict[str, Any]:
    content = instances()
    content["categories"] = [{"id": 1, "name": "square", "isthing": 1}, {"id": 4, "name": "ground", "isthing": 0}]
    segments = [
        {"id": 300, "category_id": 1, "iscrowd": 0, "area": 256},
        {"id": 70000, "category_id": 4, "iscrowd": 0, "area": HEIGHT * WIDTH - 256},
    ]
    content["annotations"] = [
        {"image_id": n, "file_name": f"{n}.png", "segments_info": copy.deepcopy(segments)} for n in range(1, NUMBER + 1)
    ]
    return content


def ids() -> np.ndarray:
    found = np.full((HEIGHT, WIDTH), 70000)
    found[8:24, 8:24] = 300
    return found


# Seeds. Most change the second image (2) or the annotation of it (12).


def annotation(**changes: Any) -> Seed:
    return lambda folder, content: content["annotations"][1].update(changes)


def mask(segmentation: Any) -> Seed:
    return lambda folder, content: content["annotations"][1].update(segmentation=segmentation, bbox=None, area=None)


def image(**changes: Any) -> Seed:
    return lambda folder, content: content["images"][1].update(changes)


def category(**changes: Any) -> Seed:
    return lambda folder, content: content["categories"][1].update(changes)


def segment(**changes: Any) -> Seed:
    return lambda folder, content: content["annotations"][1]["segments_info"][0].update(changes)


def gone(*path: Any) -> Seed:
    def seed(folder: Path, content: dict[str, Any]) -> None:
        *parents, key = path
        for one in parents:
            content = content[one]
        del content[key]

    return seed


def value(*path: Any) -> Seed:
    def seed(folder: Path, content: dict[str, Any]) -> None:
        *parents, key, new = path
        for one in parents:
            content = content[one]
        content[key] = new

    return seed


def again(key: str, **changes: Any) -> Seed:
    return lambda folder, content: content[key].append({**copy.deepcopy(content[key][1]), **changes})


def text(written: str | bytes) -> Seed:
    def seed(folder: Path, content: dict[str, Any]) -> str:
        (folder / "a.json").write_bytes(written.encode() if isinstance(written, str) else written)
        return "written"

    return seed


def half_json(folder: Path, content: dict[str, Any]) -> str:
    whole = (folder / "a.json").read_bytes()
    (folder / "a.json").write_bytes(whole[: len(whole) // 2])
    return "written"


def file(name: str, make: Callable[[Path], Any]) -> Seed:
    return lambda folder, content: make(folder / name)


def halved(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def saved(array: Any, **how: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(np.asarray(array)).save(path, **how)


def as_format(name: str) -> Callable[[Path], None]:
    """Write the same pixels in another format under the old name, cut in half."""

    def make(path: Path) -> None:
        Image.open(path).save(path, format=name)
        halved(path)

    return make


DEEP = np.full((HEIGHT, WIDTH), 9000, np.uint16)
LABELS = (ids() == 300).astype(np.uint8)
