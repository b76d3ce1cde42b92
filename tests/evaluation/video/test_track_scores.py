"""Scores of tracks: against the published evaluator's numbers, and by hand."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from pycocotools import mask as coco_mask

from mask2former import YTVISEvaluator
from mask2former.evaluation.video.score import score_tracks, track_iou
from mask2former.evaluation.video.switches import count_switches
from mask2former.evaluation.video.truth import ScoredTrack, read_truth

FIXTURE = Path(os.environ.get("MASK2FORMER_TEST_DATA", "no such folder"), "video/eval")


@pytest.mark.skipif(not FIXTURE.is_dir(), reason="MASK2FORMER_TEST_DATA has no video/eval")
@pytest.mark.parametrize("name", ["clips", "cells"])
def test_equal_to_the_published_evaluator(name: str) -> None:
    published = json.loads((FIXTURE / f"{name}_scores.json").read_text())
    results: dict[Any, list[ScoredTrack]] = defaultdict(list)
    for one in json.loads((FIXTURE / f"{name}_results.json").read_text()):
        results[one["video_id"]].append(ScoredTrack(one["category_id"], one["segmentations"], one["score"]))
    found = score_tracks(read_truth(str(FIXTURE / f"{name}_gt.json")), results)
    expected = published["scores"] | {f"AP-{key}": value for key, value in published["per_category"].items()}
    for key, value in expected.items():
        assert math.isnan(found[key]) if value is None else round(found[key], 4) == value, key


def encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def track(masks: np.ndarray, category: int = 3, score: float = 0.9) -> ScoredTrack:
    return ScoredTrack(category, [encoded(mask) if mask.any() else None for mask in masks], score)


def test_iou_sums_over_frames() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 4, 9, 11)) > 0.6
    one[2], other[3] = False, False
    expected = (one & other).sum() / (one | other).sum()
    assert track_iou(track(one), track(other)) == pytest.approx(expected, rel=1e-12)
    assert track_iou(track(np.zeros((2, 4, 4))), track(np.zeros((2, 4, 4)))) == 0.0


def test_switches_by_hand() -> None:
    """Two objects side by side; two tracks that change places after frame 2, and back after a frame without masks."""
    left, right = np.zeros((2, 6, 8, 8), bool)
    left[:, :, :4], right[:, :, 4:] = True, True
    swapped = [left.copy(), right.copy()]
    swapped[0][3:], swapped[1][3:] = right[3:], left[3:]
    assert count_switches([track(left), track(right)], [track(left), track(right)]) == 0
    assert count_switches([track(left), track(right)], [track(one) for one in swapped]) == 2
    for one in swapped:
        one[4] = False
    assert count_switches([track(left), track(right)], [track(one) for one in swapped]) == 2
    assert count_switches([track(left)], [track(left[:, ::-1, ::-1], score=0.2)]) == 0
    other_class = track(left, category=7)
    assert count_switches([track(left)], [other_class]) == 0


@pytest.fixture
def evaluator(tmp_path: Path) -> Any:
    left = np.zeros((3, 8, 8), bool)
    left[:, :, :4] = True
    content = {
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "videos": [{"id": v, "height": 8, "width": 8, "length": 3, "file_names": ["a", "b", "c"]} for v in (1, 2)],
        "annotations": [
            {"id": 0, "video_id": 1, "category_id": 3, "iscrowd": 0, "segmentations": [*map(encoded, left[:2]), None]}
        ],
    }
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(content))
    MetadataCatalog.get("tracks_test").set(json_file=str(file), thing_dataset_id_to_contiguous_id={3: 0, 7: 1})
    yield YTVISEvaluator("tracks_test", output_dir=str(tmp_path / "inference"))
    MetadataCatalog.remove("tracks_test")


def clip(masks: np.ndarray, label: int = 0, score: float = 0.8) -> dict[str, Any]:
    return {"image_size": (8, 8), "pred_scores": [score], "pred_labels": [label], "pred_masks": [masks]}


def test_evaluates_and_writes_results(evaluator: Any, tmp_path: Path) -> None:
    perfect = np.zeros((3, 8, 8), bool)
    perfect[:2, :, :4] = True
    evaluator.process([{"video_id": 1}], clip(perfect))  # as the published model gives it
    evaluator.process([{"video_id": 2}], [clip(perfect, label=1)])
    scores = evaluator.evaluate()["segm"]
    assert scores["AP"] == scores["AP-cat"] == pytest.approx(100) and math.isnan(scores["AP-dog"])
    assert scores["ID switches"] == 0 and scores["AP-frames<16"] == pytest.approx(100)
    first, second = json.loads((tmp_path / "inference/results.json").read_text())
    assert (first["video_id"], first["category_id"], first["score"]) == (1, 3, 0.8) and second["category_id"] == 7
    assert [coco_mask.area(one) for one in first["segmentations"]] == [32, 32, 0]  # zeros, not null
    kept = evaluator.counts()
    evaluator.reset()
    evaluator.add_counts(json.loads(json.dumps(kept)))
    assert evaluator.evaluate()["segm"]["AP"] == scores["AP"]


def test_a_video_without_results_costs_recall(evaluator: Any) -> None:
    assert evaluator.evaluate()["segm"]["AP"] == 0
    evaluator.rehearse([{"video_id": 1, "length": 3, "height": 8, "width": 8}])


@pytest.mark.parametrize(
    ("video", "changes", "message"),
    [
        (9, {}, "video 9: it is predicted"),
        (1, {"masks": np.zeros((2, 8, 8), bool)}, r"are \(2, 8, 8\), those of the file's video \(3, 8, 8\)"),
        (1, {"score": math.nan}, "not a finite number"),
        (1, {"label": 2}, r"predicted classes \[2\]"),
    ],
)
def test_wrong_predictions_are_refused(evaluator: Any, video: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluator.process([{"video_id": video}], clip(**{"masks": np.zeros((3, 8, 8), bool), **changes}))
