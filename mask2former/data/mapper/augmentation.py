"""Random changes of image and objects together, built on Detectron2's augmentations.

There are two recipes here: large-scale jitter (the paper's for COCO, section 4.1), and resize and crop (the others).
"""

from __future__ import annotations

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, PadTransform, Transform

from mask2former.data.mapper.geometry import flatten_transforms, move_image, to_chw
from mask2former.data.mapper.mask_annotations import MaskAnnotations

IMAGE_PAD_VALUE = 128
MAX_BRIGHTNESS = 32.0  # the ranges of SSD (Liu et al. 2016)
CONTRAST_RANGE = SATURATION_RANGE = (0.5, 1.5)
MAX_HUE = 18  # OpenCV's hue circle has 180 steps


class SegmentationInput:
    """The image and its objects, which Detectron2's augmentations change together.

    It takes the place of Detectron2's ``AugInput``. Transforms are delayed until their result is needed, because
    several together cost less than one after the other (see :mod:`mask2former.data.mapper.geometry`).

    Attributes:
        objects: the image's objects.
    """

    def __init__(self, image: np.ndarray, objects: MaskAnnotations) -> None:
        self.objects = objects
        self._image = image
        self._pending: list[Transform] = []

    @property
    def image(self) -> np.ndarray:
        """The image [H, W, C] uint8, after the transforms so far."""
        self._image = move_image(self._image, self._pending)
        self._pending = []
        return self._image

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.objects.size

    @property
    def sem_seg(self) -> np.ndarray:
        """The map of class + 1 [H, W], with 0 for no class."""
        return self.objects.class_map()

    def transform(self, transform: Transform) -> None:
        for step in flatten_transforms(transform):
            grid = self.objects.grid.moved(step)
            self._pending.append(step)
            self.objects.transform(step, self.image.shape[:2] if grid is None else grid.size)

    def pixels(self) -> np.ndarray:
        """Return the image as [C, H, W] uint8, in memory of its own."""
        pad = self._pending.pop() if self._pending and type(self._pending[-1]) is PadTransform else None
        result = to_chw(self.image, pad)
        if pad is not None:
            self._pending.append(pad)
        return result


class SizeOnlyAugmentation(T.Augmentation):
    """Wrap an augmentation that reads only an image's size, so that the image need not be drawn for it."""

    def __init__(self, augmentation: T.Augmentation) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.input_args = ("size",)  # without it, Detectron2 passes the image to a function of one argument

    def get_transform(self, size: tuple[int, int]) -> Transform:
        return self.augmentation.get_transform(np.broadcast_to(np.uint8(0), (*size, 3)))

    def __repr__(self) -> str:
        return repr(self.augmentation)


class RandomCropCategoryArea(T.Augmentation):
    """Detectron2's RandomCrop_CategoryAreaConstraint with label 0 ignored: the same random crops, counted faster.

    Args:
        crop: kind and size of the crop, as for Detectron2's ``RandomCrop``.
        max_class_area: draw again (ten draws at most) while a class has this share of the labelled pixels or more, or
            no pixel is labelled.
    """

    def __init__(self, crop: tuple[str, tuple[float, float]], max_class_area: float) -> None:
        super().__init__()
        self.crop = T.RandomCrop(*crop)
        self.max_class_area = max_class_area

    def get_transform(self, size: tuple[int, int], objects: MaskAnnotations) -> Transform:
        height, width = size
        for _ in range(10):
            rows, columns = self.crop.get_crop_size(size)
            y = np.random.randint(height - rows + 1)
            x = np.random.randint(width - columns + 1)
            counts = objects.class_areas(np.s_[y : y + rows, x : x + columns])
            if np.count_nonzero(counts) > 1 and counts.max() < counts.sum() * self.max_class_area:
                break
        return CropTransform(x, y, columns, rows)


class ResizeScale(T.ResizeScale):
    """Detectron2's, but long thin images keep at least a pixel instead of failing."""

    def get_transform(self, image: np.ndarray) -> Transform:
        return _at_least_a_pixel(super().get_transform(image))


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, but long thin images keep at least a pixel instead of failing."""

    def get_transform(self, image: np.ndarray) -> Transform:
        return _at_least_a_pixel(super().get_transform(image))


def _at_least_a_pixel(resize: Transform) -> Transform:
    if isinstance(resize, T.ResizeTransform):  # a length of 0 leaves the image as it is
        resize.new_h, resize.new_w = max(resize.new_h, 1), max(resize.new_w, 1)
    return resize


class Pad(T.Augmentation):
    """Pad at the right and the bottom: the image with grey, the objects with nothing.

    Args:
        size: least (H, W) in pixels.
        multiple: sides are padded to a multiple of this, in pixels.
    """

    def __init__(self, size: tuple[int, int] = (0, 0), multiple: int = 1) -> None:
        super().__init__()
        self.size = size
        self.multiple = multiple

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        bottom, right = (
            -(-max(side, least) // self.multiple) * self.multiple - side
            for side, least in zip((height, width), self.size, strict=True)
        )
        if bottom == right == 0:
            return T.NoOpTransform()
        return PadTransform(0, 0, right, bottom, width, height, pad_value=IMAGE_PAD_VALUE, seg_pad_value=0)


class ColorJitterTransform(Transform):
    """Change brightness, contrast, saturation and hue of an 8-bit image by fixed amounts.

    Args:
        brightness: added, in grey values.
        contrast: factor of the grey values.
        saturation: factor of the saturation.
        hue: degrees / 2 added to the hue.
        contrast_first: change contrast before saturation and hue, not after.
        is_bgr: the image's channels are BGR, not RGB.
    """

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: int, contrast_first: bool, is_bgr: bool
    ) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        values = np.arange(256, dtype=np.float32)
        first = _to_uint8(values + self.brightness)
        if self.contrast_first:
            first = _to_uint8(first * np.float32(self.contrast))
        img = _look_up(first, img)
        if self.saturation != 1.0 or self.hue != 0:
            img = self._change_hue_and_saturation(img)
        if not self.contrast_first:
            img = _look_up(_to_uint8(values * self.contrast), img)
        return img

    def _change_hue_and_saturation(self, img: np.ndarray) -> np.ndarray:
        to_hsv, back = (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR) if self.is_bgr else (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
        values = np.arange(256)
        table = np.stack(((values + self.hue) % 180, _to_uint8(values * self.saturation), values), axis=-1)
        return cv2.cvtColor(cv2.LUT(cv2.cvtColor(img, to_hsv), table.astype(np.uint8)[None]), back)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return T.NoOpTransform()


class ColorJitter(T.Augmentation):
    """Change colours at random as SSD does: each change is made half of the time.

    Args:
        image_format: "RGB" or "BGR".
    """

    def __init__(self, image_format: str) -> None:
        super().__init__()
        if image_format not in ("RGB", "BGR"):
            raise ValueError(
                f"INPUT.COLOR_AUG_SSD works on RGB and BGR images; INPUT.FORMAT is {image_format!r}. Change either."
            )
        self.image_format = image_format

    def get_transform(self, image: np.ndarray) -> Transform:
        brightness, contrast, saturation, hue, contrast_first = self._rand_range(size=5) < 0.5
        return ColorJitterTransform(
            brightness=self._rand_range(-MAX_BRIGHTNESS, MAX_BRIGHTNESS) if brightness else 0.0,
            contrast=self._rand_range(*CONTRAST_RANGE) if contrast else 1.0,
            saturation=self._rand_range(*SATURATION_RANGE) if saturation else 1.0,
            hue=np.random.randint(-MAX_HUE, MAX_HUE + 1) if hue else 0,
            contrast_first=bool(contrast_first),
            is_bgr=self.image_format == "BGR",
        )


def large_scale_jitter(image_size: int, min_scale: float, max_scale: float, flip: str) -> list[T.Augmentation]:
    """Return augmentations that flip, resize by a random scale, crop and pad to a square of ``image_size`` pixels.

    The scale is relative to that square.
    """
    square = (image_size, image_size)
    return [
        *flips(flip),
        SizeOnlyAugmentation(ResizeScale(min_scale, max_scale, *square)),
        SizeOnlyAugmentation(T.FixedSizeCrop(square, pad=False)),
        SizeOnlyAugmentation(Pad(size=square)),
    ]


def resize_and_crop(
    short_sides: tuple[int, ...],
    max_size: int,
    sampling: str,
    crop: tuple[str, tuple[float, float]] | None,
    max_class_area: float,
    color_format: str | None,
    flip: str,
    size_divisibility: int,
) -> list[T.Augmentation]:
    """Return augmentations that resize the short side, crop, change colours, flip and pad.

    Args:
        short_sides: lengths of the short side to choose from, or (least, greatest), in pixels.
        max_size: the long side's limit, in pixels.
        sampling: "choice" or "range", for ``short_sides``.
        crop: kind and size of the crop as for Detectron2's ``RandomCrop``; None: no crop.
        max_class_area: see :class:`RandomCropCategoryArea`; 1.0: any crop will do.
        color_format: "RGB" or "BGR" to change colours; None: leave them.
        flip: "horizontal", "vertical", "both" or "none".
        size_divisibility: pad to a multiple of this, in pixels; no padding if 0 or less.
    """
    if sampling not in ("choice", "range"):
        raise ValueError(f"INPUT.MIN_SIZE_TRAIN_SAMPLING is {sampling!r}; choose 'choice' or 'range'.")
    augmentations: list[T.Augmentation] = [SizeOnlyAugmentation(ResizeShortestEdge(short_sides, max_size, sampling))]
    if crop is not None and max_class_area < 1.0:
        augmentations.append(RandomCropCategoryArea(crop, max_class_area))
    elif crop is not None:
        augmentations.append(SizeOnlyAugmentation(T.RandomCrop(*crop)))
    if color_format is not None:
        augmentations.append(SizeOnlyAugmentation(ColorJitter(color_format)))
    augmentations += flips(flip)
    if size_divisibility > 0:
        augmentations.append(SizeOnlyAugmentation(Pad(multiple=size_divisibility)))
    return augmentations


def flips(flip: str) -> list[T.Augmentation]:
    """Return flips, each made half of the time; "both" are for images in which up and down mean nothing."""
    axes = {"none": (), "horizontal": ("horizontal",), "vertical": ("vertical",), "both": ("horizontal", "vertical")}
    if flip not in axes:
        raise ValueError(f"INPUT.RANDOM_FLIP is {flip!r}; choose 'horizontal', 'vertical', 'both' or 'none'.")
    return [
        SizeOnlyAugmentation(T.RandomFlip(horizontal=axis == "horizontal", vertical=axis == "vertical"))
        for axis in axes[flip]
    ]


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _look_up(table: np.ndarray, img: np.ndarray) -> np.ndarray:
    """Replace each value v by ``table[v]``."""
    return cv2.LUT(np.ascontiguousarray(img), table)
