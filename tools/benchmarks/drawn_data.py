"""Draw images with many objects into a folder, annotated for all three tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

Record = dict[str, Any]
CLASSES = 20


def draw(folder: Path, name: str, size: tuple[int, int], objects: int, seed: int) -> Record:
    """Draw one image and write its files.

    Args:
        size: (H, W) in pixels.
        objects: number of blobs; those that later ones cover wholly have no panoptic segment.

    Returns:
        A data set dict. ``annotations`` are overlapping outlines; ``runs`` are the same as COCO's run lengths (RLE).
    """
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.integers(0, 256, (height // 32 + 2, width // 32 + 2, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.add(image, rng.integers(0, 24, image.shape, dtype=np.uint8))
    ids = np.zeros(size, np.int32)
    labels = np.full(size, 255, np.uint8)
    outlines, runs, categories = [], [], rng.integers(0, CLASSES, objects).tolist()
    colours = rng.choice(np.arange(1, 256**3), objects, replace=False)
    for number, category in enumerate(categories):
        points = _blob(rng, size, objects)
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        inside = mask.astype(bool)
        image[inside] = image[inside] // 2 + rng.integers(0, 128, 3, dtype=np.uint8)
        ids[inside], labels[inside] = colours[number], category
        outlines.append([points.ravel().round(2).tolist()])
        runs.append(coco_mask.encode(np.asfortranarray(mask)))
    files = {"file_name": f"{name}.jpg", "pan_seg_file_name": f"{name}_ids.png", "sem_seg_file_name": f"{name}.png"}
    files = {key: str(folder / file) for key, file in files.items()}
    Image.fromarray(image).save(files["file_name"], quality=90)
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)).save(
        files["pan_seg_file_name"]
    )
    Image.fromarray(labels).save(files["sem_seg_file_name"])
    seen = np.isin(colours, ids)
    return {
        **files,
        "image_id": seed,
        "height": height,
        "width": width,
        "annotations": _annotations(categories, outlines),
        "runs": _annotations(categories, runs),
        "segments_info": [
            {"id": int(colour), "category_id": category}
            for colour, category, there in zip(colours, categories, seen, strict=True)
            if there
        ],
    }


def _blob(rng: np.random.Generator, size: tuple[int, int], objects: int) -> np.ndarray:
    """Return a wobbly ellipse, [40, 2] (x, y), smaller for more objects; some are cut off at the edge."""
    height, width = size
    radius = rng.uniform(0.3, 1.2) * np.sqrt(height * width / (np.pi * objects))
    centre = rng.uniform(0, (width, height))
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wobble = 1 + 0.15 * np.sin(angles * rng.integers(2, 7)) + rng.normal(0, 0.03, 40)
    direction = np.stack([np.cos(angles) * rng.uniform(0.6, 1.4), np.sin(angles)], -1)
    return np.clip(centre + radius * wobble[:, None] * direction, 0, (width, height))


def _annotations(categories: list[int], segmentations: list[Any]) -> list[Record]:
    return [
        {"id": number, "category_id": category, "iscrowd": 0, "segmentation": segmentation}
        for number, (category, segmentation) in enumerate(zip(categories, segmentations, strict=True))
    ]
