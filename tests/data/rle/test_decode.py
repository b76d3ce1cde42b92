"""Run lengths against pycocotools, whole and damaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mask2former.data.rle.decode import object_runs, runs_of_mask

MASKS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))


def drawn(runs: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(size[0] * size[1], np.uint8)
    for start, end in zip(*runs, strict=True):
        assert start < end and not canvas[start:end].any()
        canvas[start:end] = 1
    return canvas.reshape(size[1], size[0]).T


@given(mask=MASKS, as_text=st.booleans())
@settings(deadline=None)
def test_compressed_runs_give_the_mask_that_pycocotools_encoded(mask: np.ndarray, as_text: bool) -> None:
    rle = coco_mask.encode(np.asfortranarray(mask))
    if as_text:
        rle["counts"] = rle["counts"].decode("ascii")
    np.testing.assert_array_equal(drawn(object_runs(rle, mask.shape), mask.shape), mask)


@given(mask=MASKS)
@settings(deadline=None)
def test_plain_runs_give_the_same_mask(mask: np.ndarray) -> None:
    column_first = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(column_first)) + 1
    runs = np.diff(np.concatenate([[0], changes, [column_first.size]])).tolist()
    counts = [0, *runs] if column_first[0] else runs
    rle = {"size": list(mask.shape), "counts": counts}
    np.testing.assert_array_equal(drawn(object_runs(rle, mask.shape), mask.shape), mask)


def test_long_runs_of_a_large_image() -> None:
    mask = np.zeros((3000, 2000), np.uint8)
    mask[100:2900, 17:1990:3] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(drawn(object_runs(rle, mask.shape), mask.shape), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 5], "counts": [0, 21]},  # too long
        {"size": [4, 5], "counts": [3, 4]},  # too short: pycocotools would leave the rest uninitialised
        {"size": [4, 5], "counts": [5, -3, 18]},
        {"size": [4, 5], "counts": ""},
        {"size": [4, 5], "counts": []},
        {"size": [4, 5], "counts": "zzz~~~"},
        {"size": [4, 5], "counts": "\n5"},
        {"size": [4, 5], "counts": "PPPPPPPPPPPP0"},  # a number of too many bytes
        {"size": [4, 5], "counts": "P"},  # a number without end
        {"size": [4, 5], "counts": "ä1"},
        {"size": [5, 4], "counts": [0, 20]},  # another image's
        {"size": [4, 5], "counts": None},
        {"counts": [0, 20]},
    ],
)
def test_damaged_masks_are_refused(rle: dict) -> None:
    with pytest.raises(ValueError):
        object_runs(rle, (4, 5))


@given(counts=st.binary(max_size=12))
@settings(deadline=None, max_examples=300)
def test_random_bytes_never_give_pixels_outside(counts: bytes) -> None:
    try:
        starts, ends = object_runs({"size": [4, 5], "counts": counts}, (4, 5))
    except ValueError:
        return
    assert len(starts) == len(ends) and (starts < ends).all()
    assert starts.size == 0 or (starts.min() >= 0 and ends.max() <= 20)


@given(mask=MASKS)
@settings(deadline=None)
def test_runs_of_a_mask_draw_it(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(drawn(runs_of_mask(mask), mask.shape), mask)
