"""The data mapper, which turns a data set dict into tensors for the model."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances

from mask2former.data.guide import Marking
from mask2former.data.images.limits import ImageError
from mask2former.data.images.read import file_size, read_image
from mask2former.data.mapper.annotations import instance_objects, panoptic_objects, semantic_objects
from mask2former.data.mapper.augmentation import (
    ResizeShortestEdge,
    SegmentationInput,
    large_scale_jitter,
    resize_and_crop,
)
from mask2former.data.mapper.bad_images import BadImages
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.data.progressive import at_size, build_stages

T_ = TypeVar("T_")
TargetReader = Callable[[dict[str, Any], tuple[int, int], int], MaskAnnotations]

# The published mappers: the task, which decides what an object is, and the augmentation.
PRESETS = {
    "mask_former_semantic": ("semantic", "crop"),
    "mask_former_panoptic": ("panoptic", "crop"),
    "mask_former_instance": ("instance", "crop"),
    "coco_panoptic_lsj": ("panoptic", "lsj"),
    "coco_instance_lsj": ("instance", "lsj"),
}
ANNOTATION_KEYS = ("annotations", "segments_info", "pan_seg_file_name", "sem_seg_file_name")


class Mapper:
    """Read an image and its annotation, augment them together and make tensors.

    Picklable, so it works in the data loader's worker processes.

    Attributes:
        preset: one of :data:`PRESETS`, for subclasses; None: the value of ``INPUT.DATASET_MAPPER_NAME``.
    """

    preset: str | None = None

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        num_classes: int,
        read_targets: TargetReader | None,
        ignore_label: int | None = None,
        max_pixels: int | None = None,
        bad_images: BadImages | None = None,
        marking: Marking | None = None,
        smaller: Mapping[float, list[T.Augmentation]] | None = None,
    ) -> None:
        """
        Args:
            augmentations: applied in order.
            image_format: "RGB" or "BGR".
            num_classes: K; every target's class must be in [0, K).
            read_targets: (record, (H, W), K) -> objects; None: return only images, for inference.
            ignore_label: return ``sem_seg`` too, in which pixels without an object have this label; None: do not.
            max_pixels: refuse larger images; None: the limit of the process.
            bad_images: add images for inference that cannot be read to this list; None: stop. In training see
                :class:`~mask2former.data.mapper.bad_images.InPlaceOfBad`.
            marking: marks some objects of training images by a coarse mask, and the others are left out; None: no mask.
            smaller: augmentations for training images of a smaller size, by that size: see :meth:`at_size`.
        """
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.num_classes = num_classes
        self.read_targets = read_targets
        self.ignore_label = ignore_label
        self.max_pixels = max_pixels
        self.bad_images = bad_images
        self.marking = marking
        self.smaller = {size: T.AugmentationList(steps) for size, steps in (smaller or {}).items()}

    def at_size(self, size: float) -> Mapper:
        """Return a mapper whose training images have sides of ``size`` times this one's (``INPUT.PROGRESSIVE``).

        Raises:
            ValueError: the configuration does not list this size.
        """
        if size == 1:
            return self
        if size not in self.smaller:
            raise ValueError(f"{size} is none of INPUT.PROGRESSIVE.SIZES that this mapper was built with.")
        other = copy.copy(self)
        other.augmentations = self.smaller[size]
        return other

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Use the class's preset, or that of ``INPUT.DATASET_MAPPER_NAME``; with ``is_train=False`` only resize."""
        arguments = {
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "max_pixels": cfg.INPUT.MAX_PIXELS,
            "bad_images": BadImages.from_config(cfg),
        }
        if not is_train:
            return {
                **arguments,
                "augmentations": [ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)],
                "read_targets": None,
            }
        name = cls.preset or cfg.INPUT.DATASET_MAPPER_NAME
        if name not in PRESETS:
            raise ValueError(f"INPUT.DATASET_MAPPER_NAME is {name!r}; choose one of {', '.join(PRESETS)}.")
        task, augmentation = PRESETS[name]

        def augmentations(size: float) -> list[T.Augmentation]:
            resized = at_size(cfg, size)
            return _jitter(resized) if augmentation == "lsj" else _crop(resized, task)

        arguments["augmentations"] = augmentations(1.0)
        arguments["smaller"] = {stage.size: augmentations(stage.size) for stage in build_stages(cfg) if stage.size != 1}
        readers: dict[str, TargetReader] = {
            "panoptic": panoptic_objects,
            "instance": instance_objects,
            "semantic": functools.partial(semantic_objects, ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE),
        }
        # MaskFormer does not read sem_seg; Detectron2's SemanticSegmentor does.
        with_labels = task == "semantic" and cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor"
        arguments["ignore_label"] = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE if with_labels else None
        arguments["marking"] = Marking(cfg) if cfg.MODEL.MASK_ENCODER.ENABLED else None
        return {**arguments, "read_targets": readers[task]}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one record.

        Args:
            record: a data set dict in Detectron2's format. It is not changed.

        Returns:
            The record without its annotation, with ``image`` [3, H, W] uint8 and, in training, ``instances``:
            ``gt_classes`` [N] int64 and ``gt_masks``, N bit masks [H, W]; given ``ignore_label``, also ``sem_seg``
            [H, W] int64; given ``marking``, for some images ``mask`` [H, W] uint8. ``height`` and ``width`` are the
            image's before augmentation. Given ``bad_images``, an image for inference that
            cannot be read is black, as every image counts in the scores.

        Raises:
            ValueError: image or annotation is broken; the message names the file and what was found.
        """
        return self._or_blank(
            record,
            lambda: self._map(record, read_image(record["file_name"], self.image_format, self.max_pixels)),
            lambda: self._map(record, np.zeros((*_size(record), 3), np.uint8)),
        )

    def _or_blank(self, record: dict[str, Any], read: Callable[[], T_], blank: Callable[[], T_]) -> T_:
        """Return what ``read`` reads; at inference what ``blank`` gives for a file that may be skipped, and list it."""
        try:
            result = read()
        except (ImageError, FileNotFoundError) as error:
            if self.bad_images is None and isinstance(error, ImageError):
                raise ImageError(f"{error} DATALOADER.ON_BAD_IMAGE skip leaves such images out.") from error
            if self.bad_images is None or self.read_targets is not None:
                raise
            self.bad_images.add(record, error)
            return blank()
        if self.bad_images is not None:
            self.bad_images.well()
        return result

    def _map(self, record: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        result = {key: value for key, value in record.items() if key not in ANNOTATION_KEYS}
        detection_utils.check_image_size(result, image)
        size = image.shape[:2]
        if self.read_targets is None:
            objects = MaskAnnotations(size, np.zeros(0, np.int64))
        else:
            objects = self.read_targets(record, size, self.num_classes)

        augmented = SegmentationInput(image, objects)
        self.augmentations(augmented)
        result["image"] = torch.from_numpy(augmented.pixels())
        if self.read_targets is not None:
            classes, masks = augmented.objects.to_masks()
            if self.marking is not None and (marked := self.marking(masks.numpy())) is not None:
                chosen, coarse = torch.from_numpy(marked[0]), torch.from_numpy(marked[1])
                classes, masks, result["mask"] = classes[chosen], masks[chosen], coarse
            result["instances"] = Instances(tuple(masks.shape[1:]), gt_classes=classes, gt_masks=BitMasks(masks))
            if self.ignore_label is not None:
                labels = augmented.objects.class_map().astype(np.int64) - 1
                labels[labels < 0] = self.ignore_label
                result["sem_seg"] = torch.from_numpy(labels)
        return result


def _size(record: dict[str, Any]) -> tuple[int, int]:
    """Return (H, W) of a record's image without reading it: as the data set says, or as its label map has it."""
    if "height" in record and "width" in record:
        return record["height"], record["width"]
    return file_size(record["sem_seg_file_name"])


def _jitter(cfg: CfgNode) -> list[T.Augmentation]:
    inputs = cfg.INPUT
    return large_scale_jitter(inputs.IMAGE_SIZE, inputs.MIN_SCALE, inputs.MAX_SCALE, inputs.RANDOM_FLIP)


def _crop(cfg: CfgNode, task: str) -> list[T.Augmentation]:
    inputs = cfg.INPUT
    return resize_and_crop(
        short_sides=inputs.MIN_SIZE_TRAIN,
        max_size=inputs.MAX_SIZE_TRAIN,
        sampling=inputs.MIN_SIZE_TRAIN_SAMPLING,
        crop=(inputs.CROP.TYPE, tuple(inputs.CROP.SIZE)) if inputs.CROP.ENABLED else None,
        # A class's share says little about instances, since most pixels belong to none. As published.
        max_class_area=1.0 if task == "instance" else inputs.CROP.SINGLE_CATEGORY_MAX_AREA,
        color_format=inputs.FORMAT if inputs.COLOR_AUG_SSD else None,
        flip=inputs.RANDOM_FLIP,
        size_divisibility=inputs.SIZE_DIVISIBILITY,
    )
