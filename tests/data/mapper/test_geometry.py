"""Several transforms at once against the same, one after the other; and our mapper against the straightforward one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, HFlipTransform, PadTransform, VFlipTransform
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.data.mapper.augmentation import RandomCropCategoryArea, SegmentationInput
from mask2former.data.mapper.geometry import Grid, move_image, to_chw
from mask2former.data.mapper.label_maps import layers_from_ids
from mask2former.data.mapper.mask_annotations import MaskAnnotations

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))

from benchmarks import drawn_data
from benchmarks.mappers import Case, assert_same, build, call

SIDES = st.integers(12, 60)  # fvcore cannot flip an image of one row twice


def random_transforms(rng: np.random.Generator, size: tuple[int, int]) -> list[T.Transform]:
    steps: list[T.Transform] = []
    for _ in range(rng.integers(1, 6)):
        height, width = size
        kind = rng.integers(0, 5)
        if kind == 0:
            size = tuple(rng.integers(12, 70, 2).tolist())
            steps.append(T.ResizeTransform(height, width, *size))
        elif kind == 1:  # some hang over the edge
            y, x = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
            h, w = rng.integers(2, 70, 2).tolist()
            steps.append(CropTransform(x, y, w, h))
            size = (min(h, height - y), min(w, width - x))
        elif kind == 2:
            bottom, right = rng.integers(0, 9, 2).tolist()
            steps.append(PadTransform(0, 0, right, bottom, pad_value=128, seg_pad_value=0))
            size = (height + bottom, width + right)
        else:
            steps.append(HFlipTransform(width) if kind == 3 else VFlipTransform(height))
    return steps


@given(seed=st.integers(0, 2**32 - 1), height=SIDES, width=SIDES)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_transforms_at_once_are_those_one_after_the_other(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, (height, width), dtype=np.uint8)
    steps = random_transforms(rng, (height, width))
    scene = SegmentationInput(
        image, MaskAnnotations((height, width), np.arange(3), [*layers_from_ids(labels, [1, 2, 3])])
    )
    for step in steps:
        scene.transform(step)
        image, labels = step.apply_image(image), step.apply_segmentation(labels)
    assert scene.size == image.shape[:2]
    np.testing.assert_array_equal(scene.pixels(), image.transpose(2, 0, 1))
    np.testing.assert_array_equal(scene.image, image)
    np.testing.assert_array_equal(scene.sem_seg, labels)
    classes, masks = scene.objects.to_masks()
    assert classes.tolist() == [value - 1 for value in np.unique(labels).tolist() if value]
    expected = [labels == value + 1 for value in classes.tolist()]
    np.testing.assert_array_equal(masks.numpy(), np.reshape(expected, masks.shape))


@pytest.mark.parametrize("new_size", [(97, 131), (50, 61), (200, 37), (50, 200), (300, 311)])
def test_crop_of_a_resized_image(new_size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 61, 3), dtype=np.uint8)
    resize = T.ResizeTransform(50, 61, *new_size)
    whole = resize.apply_image(image)
    for _ in range(20):
        y, x = (int(rng.integers(0, side)) for side in new_size)
        crop = CropTransform(x, y, int(rng.integers(1, 99)), int(rng.integers(1, 99)))
        np.testing.assert_array_equal(move_image(image, [resize, crop]), crop.apply_image(whole))


def test_a_transform_that_moves_neither_rows_nor_columns() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[2:9, 4:20] = 1
    scene = SegmentationInput(
        np.repeat(labels[..., None] * 99, 3, axis=2),
        MaskAnnotations((20, 30), np.array([5]), [*layers_from_ids(labels, [1])]),
    )
    turn = T.RotationTransform(20, 30, 90)
    scene.transform(T.TransformList([CropTransform(1, 1, 28, 18), T.ResizeTransform(18, 28, 20, 30), turn]))
    expected = turn.apply_segmentation(
        T.ResizeTransform(18, 28, 20, 30).apply_segmentation(np.ascontiguousarray(labels[1:19, 1:29]))
    )
    assert scene.size == expected.shape == (30, 20)
    np.testing.assert_array_equal(scene.objects.to_masks()[1][0].numpy(), expected.astype(bool))


def test_grid_says_where_padding_is() -> None:
    grid = Grid.of((3, 4)).moved(PadTransform(0, 0, 2, 1, seg_pad_value=0))
    assert grid.size == (4, 6) and grid.inside() == (slice(0, 3), slice(0, 4))
    assert grid.moved(CropTransform(4, 0, 2, 4)).inside() == (slice(0, 3), slice(0, 0))
    assert Grid.of((3, 4)).moved(PadTransform(0, 0, 2, 1, seg_pad_value=255)) is None


def test_planes_have_memory_of_their_own() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    result = to_chw(image)
    np.testing.assert_array_equal(result, image.transpose(2, 0, 1))
    assert result.flags.owndata and result.flags.c_contiguous


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_crop_by_area_draws_as_detectron2_does(seed: int) -> None:
    labels = np.repeat(np.random.default_rng(seed).integers(0, 4, (4, 40), dtype=np.uint8), 8, axis=0)
    objects = MaskAnnotations(labels.shape, np.arange(3), [*layers_from_ids(labels, [1, 2, 3])])
    np.random.seed(seed)
    ours = RandomCropCategoryArea(("absolute", (9, 9)), 0.4).get_transform(labels.shape, objects)
    drawn = np.random.random()
    np.random.seed(seed)
    theirs = T.RandomCrop_CategoryAreaConstraint("absolute", (9, 9), 0.4, 0).get_transform(labels, labels)
    assert (ours.x0, ours.y0, ours.w, ours.h) == (theirs.x0, theirs.y0, theirs.w, theirs.h)
    assert drawn == np.random.random()


@pytest.mark.parametrize("task", ["instance", "runs", "panoptic", "semantic"])
def test_the_mapper_gives_what_the_straightforward_one_gives(task: str, tmp_path: Path) -> None:
    records = [drawn_data.draw(tmp_path, str(n), (90, 130), objects, n) for n, objects in enumerate((0, 4, 40))]
    if task == "runs":
        records = [{**record, "annotations": record["runs"]} for record in records]
    case = Case("drawn", "instance" if task == "runs" else task, drawn_data.CLASSES, records)
    ours, plain = build(case)
    counts = set()
    for seed in range(3):
        for record in records:
            result = call(ours, record, seed)
            assert_same(result, call(plain, record, seed), f"{record['file_name']}, seed {seed}")
            counts.add(len(result["instances"]))
    assert 0 in counts and max(counts) > 5


def test_the_comparison_sees_a_pixel(make_mapper: Callable[..., Any], tmp_path: Path) -> None:
    record = drawn_data.draw(tmp_path, "a", (90, 130), 4, 0)
    ours, plain = build(Case("drawn", "instance", drawn_data.CLASSES, [record]))
    result = call(ours, record, 3)
    other = call(plain, record, 3)
    other["instances"].gt_masks.tensor[0, 0, 0] ^= True
    with pytest.raises(AssertionError, match="differ"):
        assert_same(result, other, "drawn")
    assert torch.equal(result["image"], other["image"])
