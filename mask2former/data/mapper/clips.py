"""The mapper of clips: that of images, frame by frame, with one draw of the augmentations for all frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from mask2former.data.coco.masks import has_mask
from mask2former.data.images.read import read_image
from mask2former.data.mapper.annotations import instance_objects
from mask2former.data.mapper.augmentation import SegmentationInput
from mask2former.data.mapper.bad_images import BadImages
from mask2former.data.mapper.clip_augmentation import clip_augmentations, frame_augmentations
from mask2former.data.mapper.frame_sampling import FrameSampling
from mask2former.data.mapper.mapper import Mapper
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.data.progressive import at_size, build_stages

Seen = dict[Any, tuple[int, Tensor]]  # id of a track -> class, mask [H, W] in a frame


class ClipMapper(Mapper):
    """Read a clip of a video, augment its frames alike and make tensors.

    Args:
        sampling: chooses the frames of a training clip; None: take all frames, for inference.
        per_frame: augmentations that are drawn anew for each frame, after the others.
        arguments: those of :class:`~mask2former.data.mapper.Mapper`; ``augmentations`` are drawn once for a clip.
    """

    @configurable
    def __init__(
        self, *, sampling: FrameSampling | None, per_frame: Sequence[T.Augmentation] = (), **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.sampling = sampling
        self.per_frame = T.AugmentationList(list(per_frame))

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        if not is_train:
            return {**super().from_config(cfg, False), "sampling": None}
        sizes = [stage.size for stage in build_stages(cfg)]
        return {
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "max_pixels": cfg.INPUT.MAX_PIXELS,
            "bad_images": BadImages.from_config(cfg),
            "read_targets": instance_objects,
            "augmentations": clip_augmentations(cfg),
            "smaller": {size: clip_augmentations(at_size(cfg, size)) for size in sizes if size != 1},
            "per_frame": frame_augmentations(cfg),
            "sampling": FrameSampling.from_config(cfg),
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one record.

        Args:
            record: of :func:`mask2former.data.datasets.videos.read_video_instances`. It is not changed.

        Returns:
            The record without its annotations, with ``image``, a list of T frames [3, H, W] uint8, ``file_names`` of
            these, ``frames``, their places in the video, and, in training, ``instances``, a list of T: ``gt_classes``
            [N] int64 and ``gt_masks``, N bit masks [H, W], of the same N objects in every frame, which are those that
            a frame shows; ``gt_ids`` [N] int64 is the object's number in the clip, -1 in frames that do not show it.

        Raises:
            ValueError: a frame or annotation is broken, or the frames differ in size.
        """
        frames = list(range(record["length"])) if self.sampling is None else self.sampling(record["length"])
        result = {key: value for key, value in record.items() if key != "annotations"}
        result |= {"file_names": [record["file_names"][frame] for frame in frames], "frames": frames}
        images: list[Tensor] = []
        seen: list[Seen] = []
        moves: T.TransformList | None = None
        size: tuple[int, int] | None = None
        for frame in frames:
            augmented, ids = self._frame(record, frame)
            if size is not None and augmented.size != size:
                raise ValueError(
                    f"{record['file_names'][frame]}: its size (height, width) is {augmented.size}, but that of another "
                    f"frame of the video {size}. All frames of a video need one size."
                )
            size = augmented.size
            if moves is None:
                moves = self.augmentations(augmented)
            else:
                for move in moves:
                    augmented.transform(move)
            self.per_frame(augmented)
            images.append(torch.from_numpy(augmented.pixels()))
            members, masks = augmented.objects.drawn()
            classes = augmented.objects.classes
            seen.append({ids[m]: (int(classes[m]), mask) for m, mask in zip(members, masks, strict=True)})
        result["image"] = images
        if self.read_targets is not None:
            result["instances"] = _instances(seen, (images[0].shape[-2], images[0].shape[-1]))
        return result

    def _frame(self, record: dict[str, Any], frame: int) -> tuple[SegmentationInput, list[Any]]:
        """Return a frame with its objects, and the objects' tracks."""
        one = {"file_name": record["file_names"][frame], "height": record["height"], "width": record["width"]}
        image = self._or_blank(
            one,
            lambda: read_image(one["file_name"], self.image_format, self.max_pixels),
            lambda: np.zeros((one["height"], one["width"], 3), np.uint8),
        )
        detection_utils.check_image_size(one, image)
        size = image.shape[:2]
        if self.read_targets is None:
            return SegmentationInput(image, MaskAnnotations(size, np.zeros(0, np.int64))), []
        if "annotations" not in record:
            raise ValueError(f"{one['file_name']}: its video has no annotations; training needs tracks.")
        listed = record["annotations"][frame]
        shown = [entry for entry in listed if not entry.get("iscrowd") and has_mask(entry.get("segmentation"))]
        objects = self.read_targets({**one, "annotations": shown}, size, self.num_classes)
        return SegmentationInput(image, objects), [entry["id"] for entry in shown]


def _instances(seen: Sequence[Seen], size: tuple[int, int]) -> list[Instances]:
    """Return the instances of each frame, with a row for each track that is in any of them."""
    tracks = {track: category for frame in seen for track, (category, _) in frame.items()}
    classes = torch.tensor(list(tracks.values()), dtype=torch.int64)
    result = []
    for frame in seen:
        masks = torch.zeros(len(tracks), *size, dtype=torch.bool)
        ids = torch.full((len(tracks),), -1, dtype=torch.int64)
        for row, track in enumerate(tracks):
            if track in frame:
                masks[row], ids[row] = frame[track][1], row
        result.append(Instances(size, gt_classes=classes.clone(), gt_masks=BitMasks(masks), gt_ids=ids))
    return result
