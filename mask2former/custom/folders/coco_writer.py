"""Write objects as a COCO file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mask2former.custom.source import DataSource
from mask2former.files import write_text


class CocoWriter:
    """Collect images and objects of K classes, which have the ids 1 to K.

    Args:
        names: names of the classes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add_image(self, file_name: str, size: tuple[int, int]) -> None:
        """Begin an image of (H, W) pixels, to which the objects that follow belong."""
        height, width = size
        self._images.append({"id": len(self._images) + 1, "file_name": file_name, "height": height, "width": width})

    def add_object(self, number: int, segmentation: Any = None, box: Sequence[float] | None = None) -> None:
        """Add an object to the last image.

        Args:
            number: its class, 0 to K - 1.
            segmentation: polygons or run lengths, as in COCO; None: it has a box alone.
            box: (x0, y0, x1, y1) in pixels, if it has no mask.
        """
        place = {"id": len(self._annotations) + 1, "image_id": len(self._images), "category_id": number + 1}
        if segmentation is not None:
            self._annotations.append({**place, "iscrowd": 0, "segmentation": segmentation})
        elif box is not None:
            x0, y0, x1, y1 = box
            self._annotations.append({**place, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0]})

    def write(self, file: Path, images: Path) -> DataSource:
        """Write the file, and return it with the folder of its images."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self._names, start=1)]
        content = {"images": self._images, "annotations": self._annotations, "categories": categories}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(content))
        return DataSource("instance", str(images), str(file))
