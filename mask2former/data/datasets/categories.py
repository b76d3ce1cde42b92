"""Category tables (``catalog/*.json``) and the metadata that Detectron2 makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

# id, name and, if the data set has them, isthing (0 or 1) and color ([r, g, b], 0 to 255).
Category = dict[str, Any]
CATALOG = Path(__file__).parent / "catalog"


def load_categories(name: str) -> list[Category]:
    """Return the categories of a data set: a file of ``catalog``, or "coco" (Detectron2's 133)."""
    if name == "coco":
        return COCO_CATEGORIES
    return json.loads((CATALOG / f"{name}.json").read_text(encoding="utf-8"))


def instance_metadata(categories: list[Category]) -> dict[str, Any]:
    """Return metadata of the things alone, with contiguous ids in the order of the table."""
    things = [category for category in categories if category["isthing"]]
    return {
        "thing_classes": [category["name"] for category in things],
        **_colors("thing_colors", things),
        "thing_dataset_id_to_contiguous_id": {category["id"]: i for i, category in enumerate(things)},
    }


def panoptic_metadata(categories: list[Category], things_first: bool = True) -> dict[str, Any]:
    """Return metadata with one contiguous id space over all categories, in the order of the table.

    ``stuff_*`` hold all categories, because semantic evaluation counts every category as a class of pixels.

    Args:
        categories: the table.
        things_first: give things the ids 0 to n - 1, and stuff the following. If False, things and stuff keep their
            places in the table, which published models of ADE20K and Mapillary Vistas have learnt; ``thing_classes``
            and ``thing_colors`` then hold all categories too, so that an id finds its name in either list.
    """
    ordered = sorted(categories, key=lambda category: not category["isthing"]) if things_first else categories
    everything = {category["id"]: i for i, category in enumerate(ordered)}
    metadata = {
        **instance_metadata(ordered),
        **semantic_metadata(ordered),
        "stuff_dataset_id_to_contiguous_id": everything,
    }
    if not things_first:
        metadata["thing_classes"] = metadata["stuff_classes"]
        metadata["thing_colors"] = metadata["stuff_colors"]
        metadata["thing_dataset_id_to_contiguous_id"] = {
            category["id"]: everything[category["id"]] for category in ordered if category["isthing"]
        }
    return metadata


def semantic_metadata(categories: list[Category]) -> dict[str, Any]:
    """Return metadata with every category as a class of pixels, in the order of the table, which numbers the labels."""
    return {
        "stuff_classes": [category["name"] for category in categories],
        **_colors("stuff_colors", categories),
    }


def _colors(key: str, categories: list[Category]) -> dict[str, Any]:
    """Return the colours, or nothing unless every category has one: Detectron2 needs all or none."""
    if not all("color" in category for category in categories):
        return {}
    return {key: [list(category["color"]) for category in categories]}
