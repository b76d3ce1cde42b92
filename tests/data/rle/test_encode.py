"""Run lengths as text against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mask2former.data.rle import encode
from mask2former.data.rle.encode import encode_labels, encode_masks

SIZE = st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(1, 40))


def official(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [*map(int, rle["size"])], "counts": rle["counts"].decode()}


@given(masks=hnp.arrays(np.uint8, SIZE, elements=st.integers(0, 1)))
@settings(deadline=None)
def test_masks_as_pycocotools_has_them(masks: np.ndarray) -> None:
    assert encode_masks(masks) == encode_masks(masks.astype(bool)) == [official(mask) for mask in masks]


@given(
    masks=hnp.arrays(np.uint8, SIZE, elements=st.integers(0, 1)),
    seed=st.integers(0, 2**32 - 1),
    guess=st.sampled_from(["right", "wide", "any", "strange"]),
)
@settings(deadline=None)
def test_boxes_change_no_result(masks: np.ndarray, seed: int, guess: str) -> None:
    """Whether they are right, too wide, leave pixels out, or are no boxes at all."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        if mask.any():
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if guess == "wide":
        boxes += rng.uniform(0, 3, boxes.shape) * [-1, -1, 1, 1]
    elif guess != "right":
        boxes = rng.uniform(-10, 50, boxes.shape)
        boxes[rng.random(boxes.shape) < 0.2] = np.nan if guess == "strange" else 7
    assert encode_masks(masks, boxes) == [official(mask) for mask in masks]


def test_masks_are_looked_at_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.random.default_rng(0).random((9, 12, 15)) < 0.4
    masks[[0, 5]] = False
    for most in (1, 100, 400, 10_000):
        monkeypatch.setattr(encode, "_AT_ONCE", most)
        assert encode_masks(masks) == [official(mask) for mask in masks]


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_rectangles_that_touch_the_edges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 12, 15), bool)
    for mask in masks:
        y, x = rng.choice([0, 0, 3, 9]), rng.choice([0, 0, 4, 11])
        mask[y : rng.choice([y + 1, 12, 12]), x : rng.choice([x + 1, 15])] = True
    assert encode_masks(masks) == [official(mask) for mask in masks]


def test_large_numbers() -> None:
    masks = np.zeros((3, 3000, 2500), bool)
    masks[0, 100:2900, 17:2490:3] = True
    masks[1, :, 5:2000] = True
    masks[1, 7] = False
    masks[2, -1, -1] = True
    assert encode_masks(masks) == [official(mask) for mask in masks]


@given(
    labels=hnp.arrays(np.int64, st.tuples(st.integers(0, 30), st.integers(1, 30)), elements=st.integers(0, 3)),
    kind=st.sampled_from([np.uint8, np.int16, np.int32, np.int64]),
)
@settings(deadline=None)
def test_labels(labels: np.ndarray, kind: type) -> None:
    labels = labels.astype(kind)
    assert encode_labels(labels) == {value: official(labels == value) for value in np.unique(labels).tolist()}
