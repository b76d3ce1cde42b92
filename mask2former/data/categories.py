"""Category tables (``catalog/*.json``) and the metadata that Detectron2 makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

Category = dict[str, Any]  # id, name, isthing (0 or 1), color ([r, g, b], 0 to 255)
CATALOG = Path(__file__).parent / "catalog"


def load_categories(name: str) -> list[Category]:
    """The categories of a data set: "quickstart", "camvid", "nuclei", or "coco" (Detectron2's 133)."""
    if name == "coco":
        return COCO_CATEGORIES
    return json.loads((CATALOG / f"{name}.json").read_text(encoding="utf-8"))


def instance_metadata(categories: list[Category]) -> dict[str, Any]:
    """Things alone, contiguous ids in the order of the table."""
    things = [category for category in categories if category["isthing"]]
    return {
        "thing_classes": [category["name"] for category in things],
        "thing_colors": [list(category["color"]) for category in things],
        "thing_dataset_id_to_contiguous_id": {category["id"]: i for i, category in enumerate(things)},
    }


def panoptic_metadata(categories: list[Category]) -> dict[str, Any]:
    """One contiguous id space over all categories: things first, then stuff, each in the order of the table.

    So the things' ids are 0 to n - 1, as instance evaluation wants. ``stuff_*`` hold all categories, as semantic
    evaluation wants: it counts every category as a class of pixels.
    """
    ordered = sorted(categories, key=lambda category: not category["isthing"])
    return {
        **instance_metadata(ordered),
        **semantic_metadata(ordered),
        "stuff_dataset_id_to_contiguous_id": {category["id"]: i for i, category in enumerate(ordered)},
    }


def semantic_metadata(categories: list[Category]) -> dict[str, Any]:
    """Every category as a class of pixels, in the order of the table; label pictures hold contiguous ids."""
    return {
        "stuff_classes": [category["name"] for category in categories],
        "stuff_colors": [list(category["color"]) for category in categories],
    }
