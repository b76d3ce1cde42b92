"""The straightforward mapper, to compare ours with: every mask goes at full size through every transform.

It is written plainly on Detectron2's transforms and pycocotools. For the same random draws, its results equal those of
`mask2former.data.Mapper` bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances
from fvcore.transforms.transform import TransformList
from pycocotools import mask as coco_mask

from mask2former.data.mapper.augmentation import Pad, ResizeScale

Record = dict[str, Any]
IGNORED = 255


class PlainMapper:
    """Decode the image, decode every mask, transform every mask, keep those with a pixel.

    Args:
        task: "instance", "panoptic" or "semantic".
        augmentations: see `jitter` and `crop`.
    """

    def __init__(self, task: str, augmentations: list[T.Augmentation]) -> None:
        self.masks = {"instance": self._instances, "panoptic": self._segments, "semantic": self._classes}[task]
        self.task = task
        self.augmentations = T.AugmentationList(augmentations)

    def __call__(self, record: Record) -> Record:
        image = self.read(record["file_name"], "RGB")
        labels = None
        if self.task == "semantic":
            labels = self.read(record["sem_seg_file_name"], None)
            labels = np.where(labels == IGNORED, 0, labels + 1).astype(np.uint8)
        augmented = T.AugInput(image, sem_seg=labels)
        transforms = self.augment(augmented)
        image = augmented.image
        classes, masks = [], []
        for category, mask in self.masks(record, augmented, transforms):
            if mask.any():
                classes.append(category)
                masks.append(torch.from_numpy(np.ascontiguousarray(mask)).bool())
        stacked = torch.stack(masks) if masks else torch.zeros(0, *image.shape[:2], dtype=torch.bool)
        instances = Instances(
            image.shape[:2], gt_classes=torch.tensor(classes, dtype=torch.int64), gt_masks=BitMasks(stacked)
        )
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {"image": tensor, "instances": instances}

    def read(self, path: str, image_format: str | None) -> np.ndarray:
        return detection_utils.read_image(path, image_format)

    def augment(self, augmented: T.AugInput) -> TransformList:
        return self.augmentations(augmented)

    def _instances(
        self, record: Record, augmented: T.AugInput, transforms: TransformList
    ) -> Iterator[tuple[int, np.ndarray]]:
        for annotation in record["annotations"]:
            if not annotation.get("iscrowd", 0):
                size = augmented.image.shape[:2]
                yield annotation["category_id"], self.instance_mask(annotation["segmentation"], transforms, size)

    def instance_mask(self, segmentation: Any, transforms: TransformList, size: tuple[int, int]) -> np.ndarray:
        if isinstance(segmentation, list):  # outlines stay points until the end, as in Detectron2
            outlines = [transforms.apply_coords(np.reshape(points, (-1, 2)).astype(float)) for points in segmentation]
            return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([x.ravel() for x in outlines], *size)))
        if isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        return transforms.apply_segmentation(coco_mask.decode(segmentation))

    def _segments(
        self, record: Record, augmented: T.AugInput, transforms: TransformList
    ) -> Iterator[tuple[int, np.ndarray]]:
        rgb = self.read(record["pan_seg_file_name"], "RGB").astype(np.int32)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        for segment in record["segments_info"]:
            if not segment.get("iscrowd", 0):
                yield segment["category_id"], self.segment_mask(ids, segment["id"], transforms)

    def segment_mask(self, ids: np.ndarray, segment: int, transforms: TransformList) -> np.ndarray:
        return transforms.apply_segmentation((ids == segment).astype(np.uint8))

    def _classes(
        self, record: Record, augmented: T.AugInput, transforms: TransformList
    ) -> Iterator[tuple[int, np.ndarray]]:
        for label in np.unique(augmented.sem_seg).tolist():
            if label > 0:
                yield label - 1, augmented.sem_seg == label


def jitter(size: int) -> list[T.Augmentation]:
    """Return large-scale jitter, as in COCO's presets."""
    square = (size, size)
    return [
        T.RandomFlip(),
        ResizeScale(0.1, 2.0, *square),
        T.FixedSizeCrop(square, pad=False),
        Pad(size=square),
    ]


def crop(short_sides: tuple[int, ...], max_size: int, side: int) -> list[T.Augmentation]:
    """Return resize and crop, as in the semantic presets, without the change of colours."""
    return [
        T.ResizeShortestEdge(short_sides, max_size, "choice"),
        T.RandomCrop_CategoryAreaConstraint("absolute", (side, side), 0.75, ignored_category=0),
        T.RandomFlip(),
        Pad(multiple=side),
    ]
