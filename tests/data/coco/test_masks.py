"""A segmentation in any of COCO's forms, against the even-odd rule and pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mask2former.data.coco.masks import encode_segmentation, has_mask, read_segmentation, remarks

SIZE = H, W = 20, 30
MARGIN = 100
points = st.tuples(st.integers(-MARGIN, W + MARGIN), st.integers(-MARGIN, H + MARGIN))


def drawn(segmentation: Any) -> np.ndarray:
    return coco_mask.decode(encode_segmentation(segmentation, SIZE))


@given(outline=st.lists(points, min_size=3, max_size=7, unique=True))
def test_polygons_are_clipped_to_the_image(outline: list[tuple[int, int]]) -> None:
    """Crossing itself or not: pixels more than a pixel from every edge are in it by the even-odd rule."""
    y, x = np.mgrid[:H, :W] + 0.5
    inside, near = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    for (ax, ay), (bx, by) in zip(outline, [*outline[1:], outline[0]], strict=True):
        dx, dy = bx - ax, by - ay
        share = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        near |= np.hypot(x - ax - share * dx, y - ay - share * dy) <= 1.2
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * dx / dy)
    found = drawn([[float(value) for point in outline for value in point]]).astype(bool)
    assert not ((found != inside) & ~near).any()


def test_polygons_within_are_not_touched() -> None:
    inside = [[0.0, 0.0, W + 1.0, 0.0, W + 1.0, H + 1.0, -1.0, H + 1.0]]
    (kept,) = read_segmentation(inside, SIZE)
    assert kept.ravel().tolist() == inside[0] and not remarks(inside, SIZE)
    assert drawn(inside).all()


def test_points_far_away_take_no_memory() -> None:
    """A square whose right side is a million kilometres off."""
    assert drawn([[10, 5, 1e12, 5, 1e12, 15, 10, 15]])[5:15, 10:].all()
    assert not drawn([[1e12, 5, 1e13, 5, 1e13, 15]]).any()


@given(masks=st.lists(hnp.arrays(np.uint8, SIZE, elements=st.integers(0, 1)), min_size=1, max_size=4))
def test_lists_of_run_lengths_are_united(masks: list[np.ndarray]) -> None:
    parts = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    assert np.array_equal(drawn(parts), np.any(masks, axis=0))
    assert np.array_equal(drawn(parts[0]), masks[0]) and np.array_equal(drawn(masks[0]), masks[0])


def test_parts_of_fewer_than_three_points_are_left_out() -> None:
    square = [2, 2, 9, 2, 9, 9, 2, 9]
    assert np.array_equal(drawn([[1, 1, 20, 20], square, [], [5, 5]]), drawn([square]))
    assert drawn([square]).sum() == 49 and not drawn([[1, 1, 20, 20]]).any()
    assert remarks([[1, 1, 20, 20], square], SIZE) == ["a polygon of fewer than three points is left out"]
    assert remarks([square, [2, 2, 99, 2, 99, 9, 2, 9]], SIZE) == [
        "a polygon leaves the image of 20 x 30 (height, width) and is clipped"
    ]


def test_boxes_alone() -> None:
    assert [has_mask(value) for value in (None, [], [[]], {}, "")] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ("abc", "found no mask"),
        ({}, "the mask's size"),
        ([{"x": 1, "y": 2}], "flat list"),
        ([[1, 2, 3, 4, 5, 6], {"size": [H, W], "counts": [H * W]}], "flat list"),
        ([["1"] * 6], "flat list"),
        ([[1, 2, 3, 4, 5]], "flat list"),
        ([[[1, 2], [3, 4], [5, 6]]], "flat list"),
        ([[[1, 2], [3], [5, 6]]], "flat list"),
        ([[1, 2, 3, 4, 5, 10**400]], "flat list"),
        ([[1, 2, 3, 4, 5, None]], "flat list"),
        ([1, 2, 3, 4, 5, 6], "flat list"),
        ({"size": "ab", "counts": [H * W]}, "the mask's size"),
        ({"size": [H, None], "counts": [H * W]}, "the mask's size"),
        ({"size": [H, W], "counts": ["600"]}, "have to be integers"),
        ({"size": [H, W], "counts": [0.5, 599.5]}, "have to be integers"),
        ({"size": [H, W], "counts": [[600]]}, "add up to"),
        ({"size": [H, W], "counts": [[600], 1]}, "have to be integers"),
        ({"size": [H, W], "counts": [10**30]}, "have to be integers"),
        ({"size": [H, W], "counts": [2**62, 2**62, 2**62, 2**62, 600]}, "add up to"),
    ],
)
def test_what_is_no_mask(segmentation: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_segmentation(segmentation, SIZE)
