"""Small folders as other programs write them, each with the same objects: two cats and a dog in a, one cat in b."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 30, 40
NAMES = ("cat", "dog", "emu")  # of the last there is none
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
# image -> (class, x, y, width, height)
BOXES = {"a": [(0, 2, 3, 10, 8), (0, 20, 3, 12, 8), (1, 4, 18, 20, 10)], "b": [(0, 5, 5, 20, 10)], "c": []}


def draw(folder: Path, *names: str, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 10 + 60 * ord(name[-1]) % 200, np.uint8)).save(
            folder / f"{name}{suffix}"
        )


def polygon(box: tuple[int, ...]) -> list[float]:
    _, x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def coco(names: str = "abc", prefix: str = "", suffix: str = ".png") -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{prefix}{name}{suffix}", "height": HEIGHT, "width": WIDTH}
        for number, name in enumerate(names)
    ]
    annotations = [
        {
            "image_id": number,
            "category_id": box[0] + 1,
            "segmentation": [polygon(box)],
            "bbox": list(box[1:]),
            "iscrowd": 0,
        }
        for number, name in enumerate(names)
        for box in BOXES[name]
    ]
    annotations = [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)]
    categories = [{"id": number, "name": name, "supercategory": "pets"} for number, name in enumerate(NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def save(content: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def roboflow(root: Path) -> None:
    for split, names in {"train": "abc", "valid": "b", "test": "b"}.items():
        draw(root / split, *names, suffix=".jpg")
        content = coco(names, suffix=".jpg")
        content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        save(content, root / split / "_annotations.coco.json")
    save("Exported.", root / "README.dataset.txt")


def cvat(root: Path) -> None:
    draw(root / "images" / "default", *"abc")
    save(coco(prefix="upload/first/"), root / "annotations" / "instances_default.json")


def among_images(root: Path) -> None:
    draw(root, *"abc")
    save(coco(), root / "labels.json")


def coco_own(root: Path) -> None:
    for split, names in {"train2017": "abc", "val2017": "b"}.items():
        draw(root / split, *names)
        save(coco(names), root / "annotations" / f"instances_{split}.json")
        captions = {"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}
        save(captions, root / "annotations" / f"captions_{split}.json")


def labelme(root: Path) -> None:
    draw(root, *"abc", suffix=".jpg")
    for name in "abc":
        shapes = []
        for position, box in enumerate(BOXES[name]):
            number, x, y, w, h = box
            shape: dict[str, Any] = {"label": NAMES[number], "group_id": None, "flags": {}}
            if position == 1:  # a mask of its rectangle
                file = io.BytesIO()
                Image.fromarray(np.full((h, w), True)).save(file, "PNG")
                text = base64.b64encode(file.getvalue()).decode()
                shapes.append({**shape, "shape_type": "mask", "points": [[x, y], [x + w - 1, y + h - 1]], "mask": text})
                continue
            points = np.reshape(polygon(box), (-1, 2)).tolist()
            shapes.append({**shape, "shape_type": "polygon", "points": points})
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\photos\\{name}.jpg"}
        save({**content, "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}, root / f"{name}.json")


def yolo(root: Path) -> None:
    for split, names in {"train": "abc", "valid": "b"}.items():
        draw(root / split / "images", *names, suffix=".jpg")
        for name in names:
            lines = []
            for box in BOXES[name]:
                points = np.reshape(polygon(box), (-1, 2)) / (WIDTH, HEIGHT)
                lines.append(f"{box[0]} " + " ".join(f"{value:.6f}" for value in points.ravel()))
            if lines:
                save("\n".join(lines) + "\n", root / split / "labels" / f"{name}.txt")
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(NAMES))
    save(f"train: ../train/images\nval: ../valid/images\ntest:\nnc: 3\nnames:\n{names}\n", root / "data.yaml")


def masks(root: Path, image: str, name: str, colours: Callable[[int, int], tuple[int, int, int]]) -> None:
    """Write a mask in which each object has the colour of (its class, its place among the objects)."""
    drawn = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for place, (number, x, y, w, h) in enumerate(BOXES[image]):
        drawn[y : y + h, x : x + w] = colours(number, place)
    (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn).save(root / name / f"{image}.png")


def voc_palette() -> list[int]:
    """Return the first colours of Pascal VOC's palette, as its documents list them."""
    return [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128, 64, 0, 0]


def voc(root: Path) -> None:
    """Write Pascal VOC's own layout: palette pngs, of cats (8) and sofas (18, in place of dogs), with void borders."""
    root = root / "VOC2012"
    draw(root / "JPEGImages", *"abcd", suffix=".jpg")
    for name in "abc":
        for folder in ("SegmentationClass", "SegmentationObject"):
            numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
            for place, (number, x, y, w, h) in enumerate(BOXES[name]):
                numbers[y - 1 : y + h + 1, x - 1 : x + w + 1] = 255
                numbers[y : y + h, x : x + w] = place + 1 if folder.endswith("Object") else (8, 7)[number]
            png = Image.fromarray(numbers, "P")
            palette = voc_palette() + [0] * 768
            png.putpalette([*palette[:765], 224, 224, 192])
            (root / folder).mkdir(exist_ok=True)
            png.save(root / folder / f"{name}.png")
    save("a\nb\nc\n", root / "ImageSets" / "Segmentation" / "train.txt")
    save("b\n", root / "ImageSets" / "Segmentation" / "val.txt")
    save("a\nb\n", root / "ImageSets" / "Segmentation" / "trainval.txt")


LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:200,0,0::\ndog:0,200,0::\nemu:0,0,200::\n"


def cvat_masks(root: Path) -> None:
    draw(root / "JPEGImages", *"abc", suffix=".jpg")
    for name in "abc":
        masks(root, name, "SegmentationClass", lambda number, _: (RED, GREEN, BLUE)[number])
        masks(root, name, "SegmentationObject", lambda _, place: ((128, 0, 0), (0, 128, 0), (128, 128, 0))[place])
    save(LABEL_MAP, root / "labelmap.txt")


def colour_masks(root: Path) -> None:
    draw(root / "images", *"abcd", suffix=".jpg")
    for name in "abc":
        masks(root, name, "masks", lambda number, _: (RED, GREEN, BLUE)[number])
    save(LABEL_MAP, root / "labelmap.txt")
