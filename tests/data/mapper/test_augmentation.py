"""Image and masks move together, whatever the dice say."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.data.mapper.augmentation import (
    IMAGE_PAD_VALUE,
    ColorJitter,
    ColorJitterTransform,
    Pad,
    ResizeShortestEdge,
    SegmentationInput,
    large_scale_jitter,
    resize_and_crop,
)
from mask2former.data.mapper.label_maps import layers_from_ids
from mask2former.data.mapper.mask_annotations import MaskAnnotations

COLOURS = np.array([[10, 20, 30], [250, 40, 60], [50, 240, 70], [60, 50, 230]], np.uint8)
CROP: dict[str, Any] = {
    "short_sides": (40, 64), "max_size": 100, "sampling": "range", "crop": ("absolute", (32, 40)),
    "max_class_area": 0.8, "color_format": None, "flip": "horizontal", "size_divisibility": 16,
}  # fmt: skip


def coloured_scene(seed: int) -> SegmentationInput:
    """An image of large, one-coloured shapes and the shapes as objects 1 to 3 (0 is the ground, not annotated)."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 90, 2)
    ids = np.zeros((height, width), np.int32)
    for value in (1, 2, 3):
        y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
        ids[y : y + rng.integers(12, 30), x : x + rng.integers(12, 30)] = value
    return SegmentationInput(
        COLOURS[ids], MaskAnnotations(ids.shape, np.array([4, 5, 6]), layers_from_ids(ids, [1, 2, 3]))
    )


def share_of_agreement(scene: SegmentationInput) -> float:
    """Of the pixels well inside a mask, how many have the object's colour; and the other way round."""
    classes, masks = scene.objects.to_masks()
    distance = np.abs(scene.image[:, :, None].astype(int) - COLOURS).sum(-1)
    nearest = distance.argmin(-1)
    # Bilinear resizing mixes colours at the edges, the masks are resized by nearest: look away from the edges.
    inner = cv2.erode(np.uint8(distance.min(-1) < 20), np.ones((5, 5), np.uint8)) > 0
    expected = np.zeros(scene.image.shape[:2], int)
    for category, mask in zip(classes.tolist(), masks.numpy(), strict=True):
        expected[mask] = category - 3
    padding = (np.abs(scene.image.astype(int) - IMAGE_PAD_VALUE).max(-1) == 0) | (distance.min(-1) >= 20)
    inner &= ~padding
    return float((nearest == expected)[inner].mean()) if inner.any() else 1.0


@given(seed=st.integers(0, 10**6), flip=st.sampled_from(["horizontal", "both"]))
@settings(deadline=None, max_examples=60)
def test_large_scale_jitter_moves_both(seed: int, flip: str) -> None:
    scene = coloured_scene(seed)
    np.random.seed(seed)
    T.AugmentationList(large_scale_jitter(64, 0.3, 2.0, flip))(scene)
    assert scene.image.shape == (64, 64, 3) and scene.objects.size == (64, 64)
    assert share_of_agreement(scene) > 0.99


@given(seed=st.integers(0, 10**6), short_side=st.integers(30, 120))
@settings(deadline=None, max_examples=60)
def test_resize_and_crop_moves_both(seed: int, short_side: int) -> None:
    scene = coloured_scene(seed)
    np.random.seed(seed)
    T.AugmentationList(resize_and_crop(**{**CROP, "short_sides": (short_side, short_side), "max_size": 200}))(scene)
    assert scene.image.shape[0] % 16 == scene.image.shape[1] % 16 == 0
    assert share_of_agreement(scene) > 0.99


@given(height=st.integers(1, 200), width=st.integers(1, 200), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_large_scale_jitter_always_gives_the_square(height: int, width: int, seed: int) -> None:
    ids = np.ones((height, width), np.int32)
    scene = SegmentationInput(
        np.zeros((height, width, 3), np.uint8), MaskAnnotations(ids.shape, np.array([0]), layers_from_ids(ids, [1]))
    )
    np.random.seed(seed)
    T.AugmentationList(large_scale_jitter(32, 0.1, 2.0, "horizontal"))(scene)
    _, masks = scene.objects.to_masks()
    assert scene.image.shape == (32, 32, 3)
    # All that is not the object is padding, and the padding is grey.
    np.testing.assert_array_equal(masks[0].numpy(), scene.image[..., 0] != IMAGE_PAD_VALUE)


@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1), (2, 3000), (1, 1)])
def test_thin_images_keep_a_pixel(height: int, width: int) -> None:
    """The long side's limit would leave nothing of the short one."""
    ids = np.ones((height, width), np.int32)
    scene = SegmentationInput(
        np.full((height, width, 3), 7, np.uint8), MaskAnnotations(ids.shape, np.array([0]), layers_from_ids(ids, [1]))
    )
    augmentations = resize_and_crop(**{**CROP, "short_sides": (32, 32), "max_size": 64, "crop": None, "flip": "none"})
    T.AugmentationList(augmentations[:1])(scene)
    expected = (32, 32) if height == width else (1, 64) if height < width else (64, 1)
    assert scene.image.shape[:2] == scene.objects.size == expected
    assert (scene.image == 7).all() and scene.objects.to_masks()[1].all()


def test_a_length_of_zero_still_leaves_the_image() -> None:
    assert isinstance(ResizeShortestEdge(0).get_transform(np.zeros((3, 5, 3), np.uint8)), T.NoOpTransform)


@pytest.mark.parametrize("augmentations", [large_scale_jitter(40, 1.0, 1.0, "none"), resize_and_crop(**{
    **CROP, "short_sides": (40,), "sampling": "choice", "crop": None, "flip": "none"})])  # fmt: skip
def test_without_flip_left_stays_left(augmentations: list[T.Augmentation]) -> None:
    for seed in range(30):
        image = np.zeros((40, 40, 3), np.uint8)
        image[:, :20] = 255
        ids = np.zeros((40, 40), np.int32)
        ids[:, :20] = 1
        scene = SegmentationInput(image, MaskAnnotations(ids.shape, np.array([0]), layers_from_ids(ids, [1])))
        np.random.seed(seed)
        T.AugmentationList(augmentations)(scene)
        assert scene.image[5, 2, 0] == 255 and scene.image[5, 35, 0] == 0
        assert scene.objects.to_masks()[1][0, 5, 2]


def test_with_flip_half_are_flipped() -> None:
    flipped = 0
    np.random.seed(0)
    for _ in range(200):
        ids = np.zeros((8, 8), np.int32)
        ids[:, :4] = 1
        image = np.repeat(np.uint8(ids * 255)[..., None], 3, axis=2)
        scene = SegmentationInput(image, MaskAnnotations(ids.shape, np.array([0]), layers_from_ids(ids, [1])))
        T.AugmentationList(large_scale_jitter(8, 1.0, 1.0, "horizontal"))(scene)
        np.testing.assert_array_equal(scene.objects.to_masks()[1][0].numpy(), scene.image[..., 0] == 255)
        flipped += int(scene.image[0, 0, 0] == 0)
    assert 70 < flipped < 130


def test_vertical_flip_turns_upside_down() -> None:
    corners = set()
    np.random.seed(0)
    for _ in range(20):
        image = np.zeros((8, 8, 3), np.uint8)
        image[:4, :4] = 255
        scene = SegmentationInput(image, MaskAnnotations((8, 8), np.zeros(0, np.int64)))
        T.AugmentationList(large_scale_jitter(8, 1.0, 1.0, "vertical"))(scene)
        corners.add(tuple(np.argwhere(scene.image[..., 0])[0].tolist()))
    assert corners == {(0, 0), (4, 0)}


@pytest.mark.parametrize("flip", ["flip_by_clip", "all", ""])
def test_unknown_flips_are_refused(flip: str) -> None:
    with pytest.raises(ValueError, match="RANDOM_FLIP"):
        large_scale_jitter(32, 0.1, 2.0, flip)


def test_unknown_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="MIN_SIZE_TRAIN_SAMPLING"):
        resize_and_crop(**{**CROP, "sampling": "choice_by_clip"})


def test_pad_to_a_multiple_never_crops() -> None:
    for height, width in ((5, 70), (32, 32), (33, 1)):
        transform = Pad(multiple=32).get_transform(np.zeros((height, width, 3), np.uint8))
        padded = transform.apply_image(np.zeros((height, width, 3), np.uint8))
        assert padded.shape == (-(-height // 32) * 32, -(-width // 32) * 32, 3)
        assert (padded[:height, :width] == 0).all() and (padded[height:] == IMAGE_PAD_VALUE).all()
        assert not transform.apply_segmentation(np.zeros((height, width), np.uint8)).any()


def test_crop_avoids_one_class_filling_it() -> None:
    """The right half holds two classes, the left one: crops that one class fills are drawn again."""
    ids = np.ones((40, 400), np.int32)
    ids[20:, 200:] = 2
    image = np.zeros((40, 400, 3), np.uint8)
    filled = {1.0: 0, 0.8: 0}
    for max_class_area in filled:
        np.random.seed(0)
        augmentations = resize_and_crop(
            **{**CROP, "short_sides": (40,), "sampling": "choice", "max_size": 400, "max_class_area": max_class_area}
        )
        for _ in range(50):
            scene = SegmentationInput(image, MaskAnnotations(ids.shape, np.array([0, 1]), layers_from_ids(ids, [1, 2])))
            T.AugmentationList(augmentations)(scene)
            filled[max_class_area] += int(len(scene.objects.to_masks()[0]) == 1)
    assert filled[1.0] > 10 and filled[0.8] <= 2


NO_CHANGE: dict[str, Any] = {
    "brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0, "contrast_first": True, "is_bgr": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [100, 200, 50]),
        ({"brightness": 30.0}, [130, 230, 80]),
        ({"brightness": 60.0}, [160, 255, 110]),
        ({"brightness": -60.0}, [40, 140, 0]),
        ({"contrast": 1.5}, [150, 255, 75]),
        ({"contrast": 0.5, "contrast_first": False}, [50, 100, 25]),
        ({"brightness": 10.0, "contrast": 0.5}, [55, 105, 30]),
    ],
)
def test_brightness_and_contrast(change: dict[str, Any], expected: list[int]) -> None:
    image = np.full((2, 3, 3), [100, 200, 50], np.uint8)
    np.testing.assert_array_equal(ColorJitterTransform(**{**NO_CHANGE, **change}).apply_image(image)[1, 2], expected)


def test_hue_turns_red_to_yellow_in_both_channel_orders() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    turned = ColorJitterTransform(**{**NO_CHANGE, "hue": 30}).apply_image(red)
    assert turned[0, 0].tolist() == [255, 255, 0]
    back_to_front = ColorJitterTransform(**{**NO_CHANGE, "hue": 30, "is_bgr": True}).apply_image(red[..., ::-1])
    assert back_to_front[0, 0].tolist() == [0, 255, 255]
    wrapped = ColorJitterTransform(**{**NO_CHANGE, "hue": -18}).apply_image(red)[0, 0]
    assert wrapped[0] == 255 and wrapped[1] == 0 and wrapped[2] > 100


def test_saturation_fades_to_grey() -> None:
    image = np.full((1, 1, 3), [200, 100, 100], np.uint8)
    faded = ColorJitterTransform(**{**NO_CHANGE, "saturation": 0.5}).apply_image(image)[0, 0].astype(int)
    assert faded[0] == 200 and abs(faded[1] - 150) <= 2 and abs(faded[2] - 150) <= 2
    grey = np.full((1, 1, 3), 90, np.uint8)
    np.testing.assert_array_equal(ColorJitterTransform(**{**NO_CHANGE, "saturation": 1.5}).apply_image(grey), grey)


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_colours_leave_masks_and_size_alone(seed: int) -> None:
    scene, untouched = coloured_scene(seed), coloured_scene(seed)
    np.random.seed(seed)
    transform = ColorJitter("RGB")(scene)
    assert scene.image.shape == untouched.image.shape and scene.image.dtype == np.uint8
    np.testing.assert_array_equal(scene.objects.to_masks()[1].numpy(), untouched.objects.to_masks()[1].numpy())
    np.testing.assert_array_equal(transform.apply_image(untouched.image), scene.image)  # the same again: no dice left
    points = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(transform.apply_coords(points), points)


def test_colours_do_change() -> None:
    np.random.seed(0)
    image = np.full((2, 2, 3), [100, 150, 50], np.uint8)
    results = {tuple(ColorJitter("RGB").get_transform(image).apply_image(image)[0, 0]) for _ in range(50)}
    assert len(results) > 25


def test_colours_need_three_channels() -> None:
    with pytest.raises(ValueError, match="COLOR_AUG_SSD"):
        ColorJitter("L")
