"""Check that impossible predictions are named with their image, not scored 0; what the truth lacks is no mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data.images.read import panoptic_png
from mask2former.evaluation.connected_components_pq import SemanticPanopticEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator

NAME, SIZE = "wrong_predictions", (8, 12)
IDS = np.where(np.arange(SIZE[1]) < 6, 5, 7) + np.zeros(SIZE, np.int64)
RECORD: dict[str, Any] = {"image_id": 3, "file_name": "cat.jpg"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """One image: class 0 (a thing) on the left, class 1 on the right; and a listed segment of no pixel."""
    Image.fromarray(panoptic_png(IDS)).save(tmp_path / "ids.png")
    Image.fromarray((IDS == 7).astype(np.uint8)).save(tmp_path / "labels.png")
    segments = [{"id": 5, "category_id": 1}, {"id": 7, "category_id": 2}, {"id": 9, "category_id": 1, "area": 40}]
    content = {
        "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
        "annotations": [{"image_id": 3, "file_name": "ids.png", "segments_info": segments}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    DatasetCatalog.register(NAME, lambda: [{**RECORD, "sem_seg_file_name": str(tmp_path / "labels.png")}])
    MetadataCatalog.get(NAME).set(
        panoptic_json=str(tmp_path / "panoptic.json"),
        panoptic_root=str(tmp_path),
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={2: 1},
        stuff_classes=["cat", "sky"],
        ignore_label=255,
    )
    yield tmp_path
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)


def process(evaluator: Any, output: dict[str, Any]) -> Any:
    evaluator.reset()
    evaluator.process([RECORD], [output])
    return evaluator


def panoptic_output(category: int) -> dict[str, Any]:
    segments = [{"id": 5, "category_id": 0, "isthing": True}, {"id": 7, "category_id": category, "isthing": False}]
    return {"panoptic_seg": (torch.from_numpy(IDS).int(), segments)}


def test_a_listed_segment_of_no_pixel_is_not_missed(folder: Path) -> None:
    """Nobody can find it, and training leaves it out too."""
    assert process(PanopticEvaluator(NAME), panoptic_output(1)).evaluate()["panoptic_seg"]["PQ"] == 100.0


def test_a_class_that_the_data_set_lacks(folder: Path) -> None:
    with pytest.raises(ValueError, match=f"Image 3: the model predicts the class 6, which {NAME} lacks"):
        process(PanopticEvaluator(NAME), panoptic_output(6))


@pytest.mark.parametrize(
    ("kind", "where"), [(SemanticEvaluator, r"labels\.png"), (SemanticPanopticEvaluator, r"cat\.jpg")]
)
def test_semantic_scores_that_are_no_numbers(folder: Path, kind: Any, where: str) -> None:
    scores = torch.rand(2, *SIZE)
    process(kind(NAME), {"sem_seg": scores})
    scores[1, 3, 4] = float("nan")  # argmax would take it for the best
    with pytest.raises(ValueError, match=rf"{where}: predicted semantic scores are not numbers \(NaN\)"):
        process(kind(NAME), {"sem_seg": scores})


@pytest.mark.parametrize("labels", [torch.zeros(8, 11).int(), torch.zeros(12, 8).int(), torch.full(SIZE, 2).int()])
def test_label_maps_of_another_size_or_class(folder: Path, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"labels\.png: the (prediction's|model predicts the class 2)"):
        process(SemanticEvaluator(NAME), {"sem_seg_labels": labels})


def test_damaged_ground_truth_is_named_by_the_evaluator(folder: Path) -> None:
    (folder / "labels.png").write_bytes((folder / "labels.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"labels\.png: it cannot be read"):
        process(SemanticEvaluator(NAME), {"sem_seg_labels": torch.zeros(SIZE).int()})
    (folder / "ids.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"Image 3, ground truth .*ids\.png: .*not an image"):
        process(PanopticEvaluator(NAME), panoptic_output(1))


def test_a_file_name_that_climbs_is_not_joined(folder: Path) -> None:
    content = json.loads((folder / "panoptic.json").read_text())
    content["annotations"][0]["file_name"] = "../ids.png"
    (folder / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"panoptic\.json: annotation of image 3: .*'\.\./ids\.png' leads out of"):
        process(PanopticEvaluator(NAME), panoptic_output(1))
