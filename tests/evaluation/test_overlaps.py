"""Every IoU is a share, or the evaluator stops with the image's name; areas are counted, not believed."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from panopticapi.evaluation import OFFSET
from PIL import Image
from pycocotools import mask as mask_util

from mask2former.evaluation import average_precision
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.overlaps import Overlaps, count_pairs, mask_overlaps, match, panoptic_overlaps
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.panoptic_quality import tally_image

NAME = "overlaps_test"


def segments_of(ids, rng, **more):
    numbers = [int(id_) for id_ in np.unique(ids) if id_]
    return [{"id": id_, "category_id": int(rng.integers(1, 4)), "iscrowd": 0, **more} for id_ in numbers]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_ground_truth_gives_an_iou_outside_of_0_to_1(seed):
    """Wrong areas, segments that are not there, ids that no segment has, crowds, void: named or scored in [0, 1]."""
    rng = np.random.default_rng(seed)
    truth, predicted = (np.repeat(np.repeat(rng.integers(0, 6, (4, 4)), 5, 0), 5, 1) for _ in range(2))
    segments = segments_of(truth, rng, area=int(rng.integers(-5, 500)))
    segments = [{**s, "iscrowd": int(rng.random() < 0.3)} for s in segments if rng.random() < 0.8]
    segments += [{"id": 99, "category_id": 1, "iscrowd": 0, "area": 0}]
    found = segments_of(predicted, rng)
    overlaps = panoptic_overlaps(truth, segments, predicted, found)
    assert ((overlaps.iou >= 0) & (overlaps.iou <= 1)).all()
    assert ((overlaps.void >= 0) & (overlaps.void <= 1)).all()
    tallies = tally_image(truth, segments, predicted, found)
    assert all(0 <= t.iou <= t.matched for t in tallies.values())
    assert sum(t.matched + t.false_negatives for t in tallies.values()) == sum(not s["iscrowd"] for s in segments)


def test_pairs_are_those_of_panopticapis_trick():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 7, (2, 30, 40)) * 4001
    labels, counts = np.unique(a.astype(np.uint64) * OFFSET + b.astype(np.uint64), return_counts=True)
    rows, columns, table = count_pairs(a, b)
    assert rows == sorted(rows) and columns == sorted(columns)
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        assert table[rows.index(label // OFFSET), columns.index(label % OFFSET)] == count
    assert table.sum() == a.size


@pytest.mark.parametrize("iou", [-1.0, 1.5, float("nan"), 204800.0])
def test_an_impossible_iou_is_refused(iou):
    one = np.array([1])
    with pytest.raises(ValueError, match=r"found an IoU of .*\[0, 1\]"):
        Overlaps(one, one, one, one, one[None], np.array([[iou]]), np.zeros(1))


def test_masks_of_two_sizes_are_refused():
    """pycocotools gives an IoU of -1 for them."""
    masks = [[mask_util.encode(np.asfortranarray(np.ones(size, np.uint8)))] for size in ((4, 5), (5, 4))]
    with pytest.raises(ValueError, match="IoU of -1"):
        mask_overlaps(masks[0], [1], masks[1], [1])


def test_better_scores_choose_first():
    iou = np.array([[0.6, 0.9, 0.8], [0.7, 0.6, 0.2]])
    classes, areas = np.array([4, 4]), np.array([9, 9])
    o = Overlaps(classes, areas, np.array([4, 4, 4]), np.array([9, 9, 9]), (9 * iou).astype(int), iou, np.zeros(3))
    found = match(o)
    assert found.partners.tolist() == [1, 0, -1]
    assert found.duplicates.tolist() == [-1, -1, 0]
    assert found.spurious.tolist() == [False, False, True] and not found.unmatched.any()


@pytest.fixture
def panoptic(tmp_path):
    """panoptic(segment) -> evaluator of one image, file.png, whose only segment has the png's id 5 everywhere."""

    def make(segment, png_id=5):
        Image.fromarray(np.full((4, 6, 3), (png_id, 0, 0), np.uint8)).save(tmp_path / "file.png")
        annotation = {"image_id": 8, "file_name": "file.png", "segments_info": [segment]}
        content = {"images": [{"id": 8}], "annotations": [annotation], "categories": [{"id": 1, "isthing": 1}]}
        (tmp_path / "panoptic.json").write_text(json.dumps(content))
        MetadataCatalog.get(NAME).set(
            panoptic_json=str(tmp_path / "panoptic.json"),
            panoptic_root=str(tmp_path),
            thing_dataset_id_to_contiguous_id={1: 0},
            stuff_dataset_id_to_contiguous_id={},
        )
        return PanopticEvaluator(NAME)

    yield make
    MetadataCatalog.pop(NAME)


def perfect(evaluator):
    evaluator.reset()
    segments = [{"id": 1, "isthing": True, "category_id": 0}]
    output = {"panoptic_seg": (torch.ones(4, 6, dtype=torch.int32), segments)}
    evaluator.process([{"image_id": 8, "file_name": "8.jpg"}], [output])
    return evaluator.evaluate()["panoptic_seg"]["PQ"]


@pytest.mark.parametrize("area", [0, 1, -24, 24, 10**6, None])
def test_a_perfect_prediction_scores_100_whatever_the_files_area(panoptic, area):
    assert perfect(panoptic({"id": 5, "category_id": 1, "iscrowd": 0, "area": area})) == 100.0


def test_a_segment_of_id_0_is_refused_with_the_images_name(panoptic):
    evaluator = panoptic({"id": 0, "category_id": 1, "iscrowd": 0, "area": 24}, png_id=0)
    with pytest.raises(ValueError, match=r"panoptic\.json: annotation of image 8, segment 0: the id 0 stands"):
        perfect(evaluator)


@pytest.fixture
def instance(tmp_path):
    """instance(mask, height) -> evaluator of one image, cat.jpg, with one object."""

    def make(mask, height=4):
        rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
        box = {"bbox": [0, 0, 6, 4], "area": 24, "iscrowd": 0}
        annotation = {"id": 3, "image_id": 8, "category_id": 1, **box}
        content = {
            "images": [{"id": 8, "file_name": "cat.jpg", "height": height, "width": 6}],
            "annotations": [{**annotation, "segmentation": {**rle, "counts": rle["counts"].decode()}}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "instances.json").write_text(json.dumps(content))
        MetadataCatalog.get(NAME).set(
            json_file=str(tmp_path / "instances.json"), thing_dataset_id_to_contiguous_id={1: 0}
        )
        return InstanceEvaluator(NAME)

    yield make
    MetadataCatalog.pop(NAME)


def found(evaluator, score=0.9, box=6.0):
    instances = Instances((4, 6))
    instances.pred_masks, instances.pred_classes = torch.ones(1, 4, 6, dtype=torch.bool), torch.zeros(1).long()
    instances.pred_boxes, instances.scores = Boxes(torch.tensor([[0.0, 0.0, box, 4.0]])), torch.tensor([score])
    evaluator.reset()
    evaluator.process([{"image_id": 8, "file_name": "cat.jpg"}], [{"instances": instances}])
    return evaluator.evaluate()["segm"]["AP"]


@pytest.mark.parametrize("fast", [True, False])
def test_what_cannot_be_compared_stops_with_the_images_name(instance, monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(average_precision, "hotcoco", lambda: None)
    mask = np.ones((4, 6), bool)
    assert found(instance(mask)) == pytest.approx(100.0)
    with pytest.raises(
        ValueError, match=r"instances\.json: annotation 3: the mask's size .* is \[6, 4\], but the image's"
    ):
        instance(mask.T)
    with pytest.raises(ValueError, match=r"image cat\.jpg: .*\(4, 6\), that of the file's image \(5, 6\)"):
        found(instance(np.ones((5, 6), bool), height=5))
    with pytest.raises(ValueError, match=r"image cat\.jpg: a predicted box ends before it begins"):
        found(instance(mask), box=-1.0)
    for wrong in ({"score": float("nan")}, {"box": float("inf")}):
        with pytest.raises(
            ValueError, match=rf"image cat\.jpg: a predicted {next(iter(wrong))} is not a finite number"
        ):
            found(instance(mask), **wrong)


def test_float_masks_are_scored_as_booleans(instance):
    """The published models give them so."""
    evaluator = instance(np.ones((4, 6), bool))
    instances = Instances((4, 6))
    instances.pred_masks, instances.pred_classes = torch.ones(1, 4, 6), torch.zeros(1).long()
    instances.pred_boxes, instances.scores = Boxes(torch.tensor([[0.0, 0.0, 6.0, 4.0]])), torch.tensor([0.9])
    evaluator.reset()
    evaluator.process([{"image_id": 8, "file_name": "cat.jpg"}], [{"instances": instances}])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100.0)
