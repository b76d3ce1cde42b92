"""A batch on its way into the network, and out of it: padded images, their targets, and masks of the wanted sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.structures import BitMasks, ImageList, Instances
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.postprocess import ResizedMasks
from mask2former.structures import MaskPrediction, MaskTargets


class Batch(NamedTuple):
    """Normalised and padded images.

    Attributes:
        images: [B * T, 3, H, W], with the size of each before padding.
        num_frames: T; 1 for images.
        guide: [B, 2, H, W], the masks that came with the images, for a network that takes them; None: it takes none, or
            none came.
    """

    images: ImageList
    num_frames: int
    guide: Tensor | None = None

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H, W) of the padded images."""
        return self.images.tensor.shape[-2], self.images.tensor.shape[-1]


def padded_side(side: int, step: int, offset: int = 0) -> int:
    """Return the least n * step + offset, in pixels, that is not below ``side``; ``side`` itself for steps below 2."""
    return (side - offset + step - 1) // step * step + offset if step > 1 else side


def pad_together(images: Sequence[Tensor], step: int, offset: int = 0) -> ImageList:
    """Pad images [3, h, w] with zeros at the right and at the bottom to one size, see :func:`padded_side`."""
    together = ImageList.from_tensors(list(images), 0)
    height, width = together.tensor.shape[-2:]
    wide, high = padded_side(width, step, offset) - width, padded_side(height, step, offset) - height
    return ImageList(F.pad(together.tensor, (0, wide, 0, high)), together.image_sizes) if wide or high else together


def are_clips(batched_inputs: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a batch holds clips.

    Raises:
        ValueError: it holds images too.
    """
    clips = [isinstance(x["image"], list | tuple) for x in batched_inputs]
    if any(clips) and not all(clips):
        raise ValueError("A batch holds images or clips, not both.")
    return any(clips)


def targets_of(inputs: dict[str, Any], size: tuple[int, int], device: torch.device) -> MaskTargets:
    """Build an image's targets of the padded ``size`` (H, W); see :meth:`SegmentationModel.prepare_targets`."""
    given = inputs["instances"]
    frames: list[Instances] = [one.to(device) for one in (given if isinstance(given, list) else [given])]
    masks = torch.stack([_pad(_masks_of(frame), size, False) for frame in frames], dim=1)
    extras = {}
    for name, filler in (("void", True), ("semantic", -1)):
        if name in inputs:
            value = inputs[name].to(device)
            extras[name] = _pad(value if value.ndim == 3 else value[None], size, filler)
    return MaskTargets(frames[0].gt_classes, masks, **extras)


def resized_masks(
    prediction: MaskPrediction, row: int, batch: Batch, index: int, inputs: dict[str, Any]
) -> Iterator[ResizedMasks]:
    """Yield the masks of each frame of the image or clip ``index`` of a batch, which is ``row`` of the prediction."""
    for frame in range(batch.num_frames):
        image_size = batch.images.image_sizes[index * batch.num_frames + frame]
        wanted = (inputs.get("height") or image_size[0], inputs.get("width") or image_size[1])
        yield ResizedMasks(prediction.masks, row, batch.padded_size, image_size, wanted, frame)


def _masks_of(instances: Instances) -> Tensor:
    masks = instances.gt_masks
    return (masks.tensor if isinstance(masks, BitMasks) else masks).bool()


def _pad(values: Tensor, size: tuple[int, int], filler: Any) -> Tensor:
    height, width = values.shape[-2:]
    return F.pad(values, (0, size[1] - width, 0, size[0] - height), value=filler)
