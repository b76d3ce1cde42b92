"""Data sets that their records alone describe, without an annotation file, are scored by the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from square_truth import EXPECTED, NAMES, NUMBER, SIDE, SQUARE, Change, every, perfect

from mask2former.evaluation.instance import InstanceEvaluator


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Callable[[Change], str]]:
    """A data set that ``DatasetCatalog.register`` alone knows, its annotations changed."""
    made: list[str] = []

    def make(change: Change) -> str:
        made.append(name := next(NAMES))
        (tmp_path / "a.png").exists() or Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / "a.png")
        objects = {"annotations": [{"category_id": 0, "segmentation": [SQUARE]} for _ in range(NUMBER)]}
        change(objects)
        facts = {"file_name": str(tmp_path / "a.png"), "height": SIDE, "width": SIDE}
        records = [
            {**facts, "image_id": f"image {n}", "annotations": [one]} for n, one in enumerate(objects["annotations"])
        ]
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(thing_classes=["square"], evaluator_type="coco")
        return name

    yield make
    for name in made:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bbox": [16, 16, 40, 40], "bbox_mode": 0},
        {"bbox": [16, 16, 24, 24], "bbox_mode": 1},
        {"segmentation": np.pad(np.ones((24, 24), bool), (16, 24))},
        {"iscrowd": None},
    ],
    ids=str,
)
def test_a_data_set_without_a_file_is_scored_against_its_records(plain: Callable, changes: Any) -> None:
    """Without boxes too, which Detectron2's converter needs; and nothing is left in a cache for the next run."""
    name = plain(every(**changes))
    images = [{"id": record["image_id"]} for record in DatasetCatalog.get(name)]
    assert perfect(InstanceEvaluator(name), images) == pytest.approx(EXPECTED)
    assert MetadataCatalog.get(name).get("json_file") is None


def test_a_fault_of_a_record_is_named(plain: Callable) -> None:
    name = plain(lambda objects: objects["annotations"][1].update(segmentation="abc"))
    with pytest.raises(ValueError, match=rf"data set {name}: annotation 2: found no mask"):
        InstanceEvaluator(name)
