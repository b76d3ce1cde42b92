"""mIoU and its file against Detectron2's own evaluators: the installed one, and a stand-in for the main branch's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2_main import MOST_CLASSES, MainSemSegEvaluator, load, slow_boundary
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mask2former.evaluation.build import Evaluators
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.pixel_counts import boundary_confusion, confusion
from mask2former.evaluation.semantic import FastCounts, SemanticEvaluator
from mask2former.evaluation.semantic_form import accepts_label_maps


class OnMain(FastCounts, MainSemSegEvaluator):
    accepts_label_maps = True


# Ours, and the form of Detectron2's that it stands on.
FORMS = pytest.mark.parametrize(
    ("ours", "theirs"), [(SemanticEvaluator, SemSegEvaluator), (OnMain, MainSemSegEvaluator)], ids=["installed", "main"]
)


def has_boundaries(form):
    """0.6 lacks them; the installed Detectron2 may be the main branch."""
    return hasattr(form, "_mask_to_boundary") or issubclass(form, MainSemSegEvaluator)


@pytest.fixture
def register(tmp_path):
    """register(label maps, number of classes, metadata) -> (name, records)."""
    names = []

    def add(maps, classes, **facts):
        records = []
        for number, labels in enumerate(maps):
            path = str(tmp_path / f"{number}.png")
            Image.fromarray(labels).save(path)
            records.append({"file_name": f"{number}.jpg", "sem_seg_file_name": path})
        names.append(f"semantic_test_{len(names)}")
        DatasetCatalog.register(names[-1], lambda: records)
        stuff = [f"c{number}" for number in range(classes)]
        MetadataCatalog.get(names[-1]).set(**{"stuff_classes": stuff, "ignore_label": 255, **facts})
        return names[-1], records

    yield add
    for name in names:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


def run(evaluator, records, outputs):
    evaluator.reset()
    evaluator.process(records, outputs)
    return evaluator.evaluate()["sem_seg"]


def draw(seed, classes, ignored=255, images=3):
    """Label maps with ignored pixels, and scores near them: uint8 [31, 40], float [K, 31, 40]."""
    rng = np.random.default_rng(seed)
    maps, outputs = [], []
    for _ in range(images):
        labels = np.kron(rng.integers(0, classes + 1, (4, 5)), np.ones((8, 8), np.int64))[:31]
        scores = rng.integers(0, 3, (classes, 31, 40)) + 2 * (labels == np.arange(classes)[:, None, None])  # with ties
        maps.append(np.where(labels == classes, ignored, labels).astype(np.uint8))
        outputs.append({"sem_seg": torch.from_numpy(scores).float()})
    return maps, outputs


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([2, 11, 255]),
    kind=st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]),
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


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([2, 15, 19, MOST_CLASSES]),
    size=st.sampled_from([(1, 1), (5, 70), (45, 60)]),
)
def test_boundaries_are_counted_one_by_one(seed, classes, size):
    """Among them one whose diagonal, 75, makes a width between two pixels. No sum overflows, whatever the classes."""
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, classes, size).astype(np.int16)
    truth = rng.integers(0, classes + 1, size)
    truth[: size[0] // 2] = predicted[: size[0] // 2] = classes - 1
    expected = np.zeros((classes + 1, classes + 1), np.int64)
    for p, t in zip(slow_boundary(predicted).flat, slow_boundary(truth).flat, strict=True):
        expected[p, t] += 1
    counted = boundary_confusion(predicted, np.where(truth == classes, 255, truth).astype(np.uint8), classes, 255)
    assert counted.dtype == np.int64
    assert np.array_equal(counted, expected)


def test_faults_are_told():
    with pytest.raises(ValueError, match=r"label 7, which is neither a class nor 255.*classes are 0 to 4"):
        confusion(np.zeros((1, 2), np.int64), np.array([[0, 7]], np.uint8), 5, 255)
    with pytest.raises(ValueError, match="label -1, "):
        confusion(np.zeros((1, 2), np.int64), np.array([[0, -1]], np.int32), 5, 255)
    with pytest.raises(ValueError, match="predicts the class 5, which the data set lacks; classes are 0 to 4"):
        confusion(np.array([[0, 5]]), np.zeros((1, 2), np.uint8), 5, 255)
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(2, 1\)"):
        confusion(np.zeros((1, 2), np.int64), np.zeros((2, 1), np.uint8), 5, 255)


@pytest.mark.parametrize("ids", [None, {7: 0, 3: 1, 12: 2}])
@pytest.mark.parametrize("given", ["scores", "labels"])
@FORMS
def test_scores_are_detectron2s(register, ours, theirs, given, ids):
    maps, outputs = draw(0, 3)
    name, records = register(maps, 3, **({"stuff_dataset_id_to_contiguous_id": ids} if ids else {}))
    as_given = [{"sem_seg_labels": one["sem_seg"].argmax(0)} for one in outputs] if given == "labels" else outputs
    evaluator = ours(name, boundary_iou=has_boundaries(theirs))
    assert accepts_label_maps(evaluator) and not accepts_label_maps(theirs(name))
    found, expected = run(evaluator, records, as_given), run(theirs(name), records, outputs)
    assert found.keys() == expected.keys()
    assert any("Boundary" in score for score in found) == has_boundaries(theirs)
    for score, value in expected.items():
        assert found[score] == pytest.approx(value, rel=1e-12), score
    assert 30 < found["mIoU"] < 99


@pytest.mark.parametrize("ids", [None, {7: 0, 3: 1, 12: 2}])
def test_the_file_is_detectron2s(register, tmp_path, ids):
    maps, outputs = draw(1, 3)
    name, records = register(maps, 3, **({"stuff_dataset_id_to_contiguous_id": ids} if ids else {}))
    files = []
    for kind in (SemanticEvaluator, SemSegEvaluator):
        run(kind(name, output_dir=str(tmp_path / kind.__name__)), records, outputs)
        files.append(json.loads((tmp_path / kind.__name__ / "sem_seg_predictions.json").read_text()))
    assert files[0] == files[1]
    assert len(files[0]) == 9


@FORMS
def test_a_class_that_is_predicted_but_nowhere_true(register, ours, theirs):
    """IoU is 1/2 and 1/3 of the classes that are there: 0.6 counts 0 for the third, the main branch leaves it out."""
    name, records = register([np.array([[0, 0, 1, 1, 255]], np.uint8)], 3)
    found = run(ours(name), records, [{"sem_seg_labels": torch.tensor([[0, 1, 1, 2, 0]])}])
    assert (found["IoU-c0"], found["IoU-c1"]) == pytest.approx((50, 100 / 3))
    assert np.isnan(found["IoU-c2"])
    assert found["mIoU"] == pytest.approx((50 + 100 / 3) / (2 if has_boundaries(theirs) else 3))


def test_boundaries_only_on_request(register):
    maps, outputs = draw(2, 4)
    name, records = register(maps, 4)
    without, with_them = (run(OnMain(name, boundary_iou=wish), records, outputs) for wish in (False, True))
    boundary = {score for score in with_them if score.startswith(("BoundaryIoU-", "min(IoU, B-Iou)-"))}
    assert len(boundary) == 8
    assert without == {score: value for score, value in with_them.items() if score not in boundary}


def test_boundaries_of_many_classes_are_counted_without_overflow(register):
    """Nineteen classes take pairs up to 399, which a byte does not hold: there the main branch counts other pairs."""
    maps, outputs = draw(3, 19)
    name, records = register(maps, 19)
    evaluators = [OnMain(name, boundary_iou=True), MainSemSegEvaluator(name)]
    for evaluator in evaluators:
        run(evaluator, records, outputs)
    ours, theirs = (evaluator._b_conf_matrix for evaluator in evaluators)
    assert ours.sum() == theirs.sum() == 3 * 31 * 40
    wrapped = np.zeros(20 * 20, np.int64)
    np.add.at(wrapped, np.arange(20 * 20) % 256, ours.ravel())
    assert np.array_equal(wrapped, theirs.ravel()) and not np.array_equal(ours, theirs)


@pytest.mark.parametrize(("form", "classes"), [(SemanticEvaluator, 3), (OnMain, MOST_CLASSES + 1)])
def test_boundaries_that_detectron2_does_not_offer_are_left_out(register, caplog, form, classes):
    if form is SemanticEvaluator and has_boundaries(SemSegEvaluator):
        pytest.skip("the installed Detectron2 is the main branch")
    maps, outputs = draw(4, 3, images=1)
    name, records = register(maps, classes)
    evaluator = form(name, boundary_iou=True)
    assert "TEST.BOUNDARY_IOU" in caplog.text and f"({classes} classes)" in caplog.text
    assert not any("Boundary" in score for score in run(evaluator, records, outputs))
    caplog.clear()
    form(name)
    assert not caplog.text


@FORMS
def test_ground_truth_by_a_function(register, ours, theirs):
    """It is called as the main branch calls it, and may give any integers."""
    name, records = register([np.array([[9, 9, 0, 0]], np.uint8)], 2)
    asked = []

    def tens(path, dtype):
        asked.append((path, dtype))
        return load(path, dtype=dtype) // 9

    found = run(ours(name, sem_seg_loading_fn=tens), records, [{"sem_seg_labels": torch.tensor([[1, 1, 0, 1]])}])
    assert asked == [(records[0]["sem_seg_file_name"], int)]
    assert found["pACC"] == pytest.approx(75)


@pytest.mark.parametrize("boundary_iou", [False, True])
@FORMS
def test_a_label_beyond_the_classes_names_the_file(register, ours, theirs, boundary_iou):
    name, records = register([np.full((2, 2), 9, np.uint8)], 2)
    evaluator = ours(name, boundary_iou=boundary_iou)
    evaluator.reset()
    with pytest.raises(ValueError, match=r"0\.png: found the label 9"):
        evaluator.process(records, [{"sem_seg": torch.zeros(2, 2, 2)}])


def test_labels_are_given_only_to_those_who_say_so_themselves():
    class Own(SemanticEvaluator):
        """Its process may want scores, so what its parent says does not count."""

    def bare(kind):
        return kind.__new__(kind)

    ours, own, theirs = bare(SemanticEvaluator), bare(Own), bare(SemSegEvaluator)
    assert accepts_label_maps(ours) and not accepts_label_maps(own) and not accepts_label_maps(theirs)
    assert accepts_label_maps(Evaluators([ours, bare(PanopticEvaluator)]))
    assert not accepts_label_maps(Evaluators([ours, theirs]))
