"""Layers and outlines against masks that are moved one by one."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, HFlipTransform, TransformList
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.data.mapper.label_maps import LAYER_CAPACITY, layers_from_ids, layers_from_runs
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.data.mapper.polygons import Polygon
from mask2former.data.rle.decode import runs_of_mask


def random_masks(seed: int, count: int, size: tuple[int, int]) -> np.ndarray:
    """[count, H, W] bool rectangles that overlap."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = True
    return masks


def painted(masks: np.ndarray) -> MaskAnnotations:
    layers = layers_from_runs(masks.shape[1], {member: runs_of_mask(mask) for member, mask in enumerate(masks)})
    return MaskAnnotations(masks.shape[1:], np.arange(len(masks)) % 7, [*layers])


@given(seed=st.integers(0, 10**6), count=st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_layers_keep_overlapping_masks(seed: int, count: int) -> None:
    masks = random_masks(seed, count, (20, 24))
    classes, drawn = painted(masks).to_masks()
    np.testing.assert_array_equal(drawn.numpy(), masks)
    np.testing.assert_array_equal(classes.numpy(), np.arange(count) % 7)


@given(seed=st.integers(0, 10**6), flip=st.booleans(), height=st.integers(5, 50), width=st.integers(5, 50))
@settings(deadline=None, max_examples=40)
def test_moving_layers_is_moving_each_mask(seed: int, flip: bool, height: int, width: int) -> None:
    masks = random_masks(seed, 12, (20, 24))
    steps = [T.ResizeTransform(20, 24, height, width), CropTransform(1, 2, width - 3, height - 4)]
    transform = TransformList([*steps, HFlipTransform(width - 3)] if flip else steps)
    objects = painted(masks)
    objects.transform(transform, (height - 4, width - 3))
    expected = np.stack([transform.apply_segmentation(mask.astype(np.uint8)) for mask in masks]).astype(bool)
    visible = expected.any(axis=(1, 2))
    classes, drawn = objects.to_masks()
    np.testing.assert_array_equal(drawn.numpy(), expected[visible])
    np.testing.assert_array_equal(classes.numpy(), (np.arange(12) % 7)[visible])


def test_more_objects_than_a_layer_holds() -> None:
    ids = np.arange(600, dtype=np.int32).reshape(20, 30)
    layers = layers_from_ids(ids, list(range(599, -1, -1)))
    assert [len(layer.members) for layer in layers] == [LAYER_CAPACITY, LAYER_CAPACITY, 90]
    _, masks = MaskAnnotations((20, 30), np.zeros(600, np.int64), layers).to_masks()
    np.testing.assert_array_equal(masks.numpy(), ids[None] == np.arange(599, -1, -1)[:, None, None])

    single = {member: (np.array([member]), np.array([member + 1])) for member in range(600)}
    layers = layers_from_runs(20, single)
    assert [len(layer.members) for layer in layers] == [LAYER_CAPACITY, LAYER_CAPACITY, 90]
    _, masks = MaskAnnotations((20, 30), np.zeros(600, np.int64), [*layers]).to_masks()
    np.testing.assert_array_equal(masks.numpy().transpose(0, 2, 1).reshape(600, 600), np.eye(600, dtype=bool))


def test_disjoint_objects_share_a_layer() -> None:
    masks = np.zeros((50, 10, 10), bool)
    for i, mask in enumerate(masks):
        mask.reshape(-1)[2 * i : 2 * i + 2] = True
    assert len(painted(masks).layers) == 1


@given(
    x0=st.integers(-30, 20), y0=st.integers(-30, 20), width=st.integers(1, 60), height=st.integers(1, 60),
)  # fmt: skip
@settings(deadline=None)
def test_outlines_that_leave_the_image_are_clipped(x0: int, y0: int, width: int, height: int) -> None:
    corners = np.array([[x0, y0], [x0 + width, y0], [x0 + width, y0 + height], [x0, y0 + height]], float)
    _, masks = MaskAnnotations((20, 24), np.array([3]), polygons=[Polygon(0, corners)]).to_masks()
    expected = np.zeros((20, 24), bool)
    expected[max(y0, 0) : max(y0 + height, 0), max(x0, 0) : max(x0 + width, 0)] = True
    if expected.any():
        np.testing.assert_array_equal(masks.numpy(), expected[None])
    else:
        assert len(masks) == 0


def test_outlines_of_one_object_are_united_and_order_is_kept() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    objects = MaskAnnotations(
        (8, 8),
        np.array([5, 6, 7]),
        [*layers_from_runs(8, {1: (np.array([63]), np.array([64]))})],
        [Polygon(2, square + 3), Polygon(0, square.copy()), Polygon(0, square + 5)],
    )
    classes, masks = objects.to_masks()
    assert classes.tolist() == [5, 6, 7]
    assert masks.sum(dim=(1, 2)).tolist() == [8, 1, 4]
    assert masks[0, :2, :2].all() and masks[0, 5:7, 5:7].all() and masks[1, 7, 7]


@pytest.mark.parametrize("offset", [0, 250, 300])
def test_class_map(offset: int) -> None:
    ids = np.array([[0, 4, 4], [9, 9, 0]], np.int32)
    objects = MaskAnnotations((2, 3), np.array([offset + 1, offset]), layers_from_ids(ids, [4, 9]))
    expected = [[0, offset + 2, offset + 2], [offset + 1, offset + 1, 0]]
    assert objects.class_map().tolist() == expected


@pytest.mark.parametrize("count", [3, 24, 25, 60])
def test_class_areas_are_those_of_the_map(count: int) -> None:
    rng = np.random.default_rng(count)
    ids = rng.integers(0, count + 1, (20, 30)).astype(np.int32)
    classes = rng.integers(0, 300, count)  # objects may share a class
    objects = MaskAnnotations(ids.shape, classes, layers_from_ids(ids, list(range(1, count + 1))))
    objects.transform(T.ResizeTransform(20, 30, 35, 40), (35, 40))
    window = np.s_[3:19, 10:33]
    labels, areas = np.unique(objects.class_map()[window], return_counts=True)
    found = objects.class_areas(window)
    assert sorted(found[found > 0].tolist()) == sorted(areas[labels > 0].tolist())


def test_no_objects() -> None:
    objects = MaskAnnotations((3, 4), np.zeros(0, np.int64))
    objects.transform(T.ResizeTransform(3, 4, 6, 8), (6, 8))
    classes, masks = objects.to_masks()
    assert classes.shape == (0,) and masks.shape == (0, 6, 8)
    assert not objects.class_map().any()
