"""Boundary IoU against a definition that visits every pixel, and average precision made of it."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from mask2former.evaluation.average_precision import AveragePrecision
from mask2former.evaluation.boundary import BoundaryEval, boundary, boundary_width


def slow_boundary(mask, width):
    """Pixels of the mask with something else, or the image's end, at most ``width`` rows and columns off."""
    padded = np.pad(mask, width)
    result = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        result[y, x] = not padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all()
    return result


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 5))
def test_boundary_is_what_lies_near_the_outside(seed, width):
    rng = np.random.default_rng(seed)
    mask = np.zeros((24, 31), np.uint8)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(0, 20, 2)
        mask[y : y + rng.integers(1, 22), x : x + rng.integers(1, 28)] ^= 1
    before = mask.copy()
    assert np.array_equal(boundary(mask, width), slow_boundary(mask, width))
    assert np.array_equal(mask, before)


def test_width_is_two_percent_of_the_diagonal():
    assert (boundary_width(480, 640), boundary_width(300, 400), boundary_width(5, 5)) == (16, 10, 1)


def test_overlaps_and_their_average_precision(tmp_path):
    size = (90, 120)  # diagonal 150: a boundary of 3 pixels

    def shape(mask):
        rle = mask_util.encode(np.asfortranarray(mask))
        return {"size": rle["size"], "counts": rle["counts"].decode()}

    truth = np.zeros(size, np.uint8)
    truth[10:70, 20:100] = 1
    guess = np.zeros(size, np.uint8)
    guess[12:72, 20:100] = 1
    crowd = np.zeros(size, np.uint8)
    crowd[75:, :50] = 1
    facts = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}
    annotations = [
        {**facts, "id": i + 1, "segmentation": shape(m), "area": int(m.sum()), "iscrowd": i}
        for i, m in enumerate((truth, crowd))
    ]
    images = [{"id": 1, "height": size[0], "width": size[1]}]
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cup"}]})
    )
    results = [{**facts, "segmentation": shape(m), "score": s} for m, s in ((crowd, 0.2), (guess, 0.9))]

    def iou(a, b):
        return (a & b).sum() / (a | b).sum()

    expected = iou(slow_boundary(truth, 3), slow_boundary(guess, 3))
    assert 0.3 < expected < 0.5 < iou(truth, guess)

    coco = COCO(str(path))
    evaluation = BoundaryEval(coco, coco.loadRes(results))
    evaluation.evaluate()
    assert evaluation.ious[1, 3] == pytest.approx(np.array([[expected, 0], [0, 1]]))

    score = AveragePrecision(COCO(str(path)), str(path))
    assert score(results, "segm").stats[1] == pytest.approx(1)
    assert score(results, "boundary").stats[1] == 0
    perfect = [{**facts, "segmentation": shape(truth), "score": 1.0}]
    assert score(perfect, "boundary").stats[0] == pytest.approx(1)
