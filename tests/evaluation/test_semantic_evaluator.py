"""mIoU and its file against Detectron2's own evaluator."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mask2former.evaluation.async_evaluator import AsyncEvaluator
from mask2former.evaluation.build import Evaluators
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator, confusion
from mask2former.evaluation.semantic_form import accepts_label_maps


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([2, 11, 255]),
    kind=st.sampled_from([np.uint8, np.uint16, np.int64]),
)
def test_pixels_are_counted_one_by_one(seed, classes, kind):
    rng = np.random.default_rng(seed)
    ignored = 255 if kind == np.uint8 else 65535
    truth, predicted = rng.integers(0, classes, (2, 17, 23))
    truth[rng.random(truth.shape) < 0.2] = ignored
    truth[5:9], predicted[7:12] = truth[5, 0], predicted[7, 0]
    counted = confusion(predicted, truth.astype(kind), classes, ignored)
    expected = np.zeros((classes, classes), np.int64)
    for p, t in zip(predicted.flat, truth.flat, strict=True):
        if t != ignored:
            expected[p, t] += 1
    assert counted.dtype == np.int64
    assert np.array_equal(counted, expected)


def test_faults_are_told():
    with pytest.raises(ValueError, match="label 7"):
        confusion(np.zeros((1, 2), np.int64), np.array([[0, 7]], np.uint8), 5, 255)
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(2, 1\)"):
        confusion(np.zeros((1, 2), np.int64), np.zeros((2, 1), np.uint8), 5, 255)


@pytest.mark.parametrize("ids", [None, {7: 0, 3: 1, 12: 2}])
@pytest.mark.parametrize("given", ["scores", "labels"])
def test_scores_and_file_are_detectron2s(tmp_path, ids, given):
    rng = np.random.default_rng(0)
    records, outputs = [], []
    for number in range(3):
        labels = np.repeat(rng.integers(0, 4, (6, 8)), 5, 0)
        labels[labels == 3] = 255
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        records.append({"file_name": f"{number}.jpg", "sem_seg_file_name": str(tmp_path / f"{number}.png")})
        scores = torch.from_numpy(rng.integers(0, 3, (3, 30, 8))).float()  # with ties
        outputs.append({"sem_seg": scores + 2 * torch.from_numpy(labels[None] == np.arange(3)[:, None, None])})
    DatasetCatalog.register("semantic_test", lambda: records)
    meta = MetadataCatalog.get("semantic_test").set(stuff_classes=["a", "b", "c"], ignore_label=255)
    if ids:
        meta.set(stuff_dataset_id_to_contiguous_id=ids)
    found = []
    try:
        for kind in (SemanticEvaluator, SemSegEvaluator):
            evaluator = kind("semantic_test", output_dir=str(tmp_path / kind.__name__))
            evaluator.reset()
            assert accepts_label_maps(evaluator) == (kind is SemanticEvaluator)
            as_labels = [{"sem_seg": one["sem_seg"].argmax(0)} for one in outputs]
            evaluator.process(records, as_labels if given == "labels" and accepts_label_maps(evaluator) else outputs)
            scores = evaluator.evaluate()["sem_seg"]
            file = json.loads((tmp_path / kind.__name__ / "sem_seg_predictions.json").read_text())
            found.append((scores, file))
    finally:
        DatasetCatalog.pop("semantic_test")
        MetadataCatalog.pop("semantic_test")
    assert found[0] == found[1]
    assert 30 < found[0][0]["mIoU"] < 99


def test_a_label_beyond_the_classes_names_the_file(tmp_path):
    Image.fromarray(np.full((2, 2), 9, np.uint8)).save(tmp_path / "labels.png")
    record = {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "labels.png")}
    DatasetCatalog.register("semantic_fault", lambda: [record])
    MetadataCatalog.get("semantic_fault").set(stuff_classes=["a", "b"], ignore_label=255)
    try:
        evaluator = SemanticEvaluator("semantic_fault")
        evaluator.reset()
        with pytest.raises(ValueError, match=r"labels\.png: found the label 9"):
            evaluator.process([record], [{"sem_seg": torch.zeros(2, 2, 2)}])
    finally:
        DatasetCatalog.pop("semantic_fault")
        MetadataCatalog.pop("semantic_fault")


def test_labels_are_given_only_to_those_who_say_so_themselves():
    class Own(SemanticEvaluator):
        """Its process may want scores, so what its parent says does not count."""

    def bare(kind):
        return kind.__new__(kind)

    ours, own, theirs = bare(SemanticEvaluator), bare(Own), bare(SemSegEvaluator)
    assert accepts_label_maps(ours) and not accepts_label_maps(own) and not accepts_label_maps(theirs)
    assert accepts_label_maps(Evaluators([ours, bare(PanopticEvaluator)]))
    assert not accepts_label_maps(Evaluators([ours, theirs]))
    assert accepts_label_maps(AsyncEvaluator(ours)) and not accepts_label_maps(AsyncEvaluator(theirs))
    ours._compute_boundary_iou = True  # Detectron2's main branch
    assert not accepts_label_maps(ours)
