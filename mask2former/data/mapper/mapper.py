"""The data mapper, which turns a data set dict into tensors for the model."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
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
from mask2former.data.mapper.augmentation import ResizeShortestEdge, SegmentationInput
from mask2former.data.mapper.bad_images import BadImages
from mask2former.data.mapper.copy_paste import MOST_TRIES, CopyPaste, Sample
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.data.mapper.recipes import build_augmentations, scaled
from mask2former.data.progressive import at_size, build_stages
from mask2former.things import things_from_config

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
# Those of the MaX-DeepLabs, whose images fill a canvas in part.
CANVAS_PRESETS = {"kmax_panoptic": ("panoptic", "kmax"), "max_deeplab_panoptic": ("panoptic", "max")}
ANNOTATION_KEYS = ("annotations", "segments_info", "pan_seg_file_name", "sem_seg_file_name")


class Mapper:
    """Read an image and its annotation, augment them together and make tensors.

    Picklable, so it works in the data loader's worker processes.

    Attributes:
        preset: one of :data:`PRESETS` or :data:`CANVAS_PRESETS`, for subclasses; None: the value of
            ``INPUT.DATASET_MAPPER_NAME``.
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
        copy_paste: CopyPaste | None = None,
        marks_padding: bool = False,
        marks_void: bool = False,
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
            copy_paste: puts objects of other training images into each; see :meth:`with_donors`. None: do not.
            marks_padding: return ``is_real_pixels`` too, False where the model is to see zeros.
            marks_void: return ``semantic`` and ``void`` too; the objects have to hold the crowds.
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
        self.copy_paste = copy_paste
        self.marks_padding = marks_padding
        self.marks_void = marks_void

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
        other.copy_paste = None if self.copy_paste is None else self.copy_paste.at_size(size)
        return other

    def with_donors(self, records: Sequence[dict[str, Any]]) -> Mapper:
        """Return a mapper whose copy-paste takes objects of these data set dicts; itself if it does not paste."""
        if self.copy_paste is None:
            return self
        other = copy.copy(self)
        other.copy_paste = self.copy_paste.with_records(records)
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
        if name not in (presets := PRESETS | CANVAS_PRESETS):
            raise ValueError(f"INPUT.DATASET_MAPPER_NAME is {name!r}; choose one of {', '.join(presets)}.")
        task, augmentation = presets[name]

        def augmentations(size: float, scale: float = 1.0) -> list[T.Augmentation]:
            return build_augmentations(scaled(at_size(cfg, size), scale), augmentation, task)

        sizes = [stage.size for stage in build_stages(cfg) if stage.size != 1]
        arguments["augmentations"] = augmentations(1.0)
        arguments["smaller"] = {size: augmentations(size) for size in sizes}
        if cfg.INPUT.COPY_PASTE.ENABLED or augmentation == "kmax":
            if task == "semantic" or augmentation == "max":
                raise ValueError(
                    f"INPUT.COPY_PASTE is for panoptic and instance data, not for {name}, which needs the class of "
                    "every pixel. Switch it off."
                )
            scale = cfg.INPUT.COPY_PASTE.SCALE
            arguments["copy_paste"] = CopyPaste(
                augmentations(1.0, scale),
                None if task == "instance" else things_from_config(cfg, "Copy-paste of panoptic data"),
                probability=cfg.INPUT.COPY_PASTE.PROBABILITY,
                no_sparse_images=augmentation == "kmax",
                smaller={size: augmentations(size, scale) for size in sizes},
            )
        arguments["marks_padding"] = augmentation in ("kmax", "max")
        arguments["marks_void"] = augmentation == "max"
        readers: dict[str, TargetReader] = {
            "panoptic": functools.partial(panoptic_objects, with_crowds=augmentation == "max"),
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
            [H, W] int64; given ``marking``, for some images ``mask`` [H, W] uint8; with ``marks_padding``,
            ``is_real_pixels`` [H, W] bool; with ``marks_void``, ``void`` [H, W] bool, pixels that are unlabelled or
            padding, and ``semantic`` [H, W] int64, the class of each pixel, crowds included, -1 where void. ``height``
            and ``width`` are the image's before augmentation. Given ``bad_images``, an image for inference that cannot
            be read is black, as every image counts in the scores.

        Raises:
            ValueError: image or annotation is broken; the message names the file and what was found. Or, for
                kMaX-DeepLab, many images in a row have too few labelled pixels.
        """
        if self.copy_paste is None or not self.copy_paste.no_sparse_images:
            return self._mapped(record)
        for _ in range(MOST_TRIES):
            result = self._mapped(record)
            if not result.pop("is_sparse"):
                return result
            record = self.copy_paste.draw()
        raise ValueError(
            f"{MOST_TRIES} images in a row had too few labelled pixels after augmentation, the last one "
            f"{record['file_name']}. Are there annotations, and does INPUT.CANVAS with INPUT.MIN_SCALE fit the images?"
        )

    def _mapped(self, record: dict[str, Any]) -> dict[str, Any]:
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
        if self.read_targets is None:
            augmented = SegmentationInput(image, MaskAnnotations(image.shape[:2], np.zeros(0, np.int64)))
            self.augmentations(augmented)
            return {**result, "image": torch.from_numpy(augmented.pixels())}

        augmented = self._read_objects(record, image)
        self.augmentations(augmented)
        sample = Sample.of(augmented)
        if self.copy_paste is not None:
            sample = self._with_donor(sample, self.copy_paste)
            if self.copy_paste.no_sparse_images:
                result["is_sparse"] = sample.is_sparse
        result["image"] = sample.image
        if self.marks_padding:
            result["is_real_pixels"] = sample.real
        classes, masks = sample.classes, sample.masks
        if self.marking is not None and (marked := self.marking(masks.numpy())) is not None:
            chosen, coarse = torch.from_numpy(marked[0]), torch.from_numpy(marked[1])
            classes, masks, result["mask"] = classes[chosen], masks[chosen], coarse
        result["instances"] = Instances(tuple(masks.shape[1:]), gt_classes=classes, gt_masks=BitMasks(masks))
        if self.marks_void or self.ignore_label is not None:
            labels = torch.from_numpy(augmented.objects.class_map().astype(np.int64) - 1)
            if self.marks_void:
                result |= {"semantic": labels, "void": labels < 0}
            if self.ignore_label is not None:
                result["sem_seg"] = torch.where(labels < 0, self.ignore_label, labels)
        return result

    def _read_objects(self, record: dict[str, Any], image: np.ndarray) -> SegmentationInput:
        assert self.read_targets is not None
        return SegmentationInput(image, self.read_targets(record, image.shape[:2], self.num_classes))

    def _with_donor(self, sample: Sample, copy_paste: CopyPaste) -> Sample:
        """Paste objects of another image; one that cannot be read is listed and another drawn, if bad ones may be."""
        if not copy_paste.wanted():
            return sample
        while True:
            record = copy_paste.draw()
            try:
                image = read_image(record["file_name"], self.image_format, self.max_pixels)
                donor = self._read_objects(record, image)
            except (ImageError, FileNotFoundError) as error:
                if self.bad_images is None:
                    raise
                self.bad_images.add(record, error)  # raises after many in a row
                continue
            size = (sample.image.shape[1], sample.image.shape[2])
            return copy_paste.paste(sample, copy_paste.prepare(donor, size))


def _size(record: dict[str, Any]) -> tuple[int, int]:
    """Return (H, W) of a record's image without reading it: as the data set says, or as its label map has it."""
    if "height" in record and "width" in record:
        return record["height"], record["width"]
    return file_size(record["sem_seg_file_name"])
