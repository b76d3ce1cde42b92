"""The meta-architecture of the published clip model."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from mask2former.modeling.meta_arch import Batch, MaskFormer
from mask2former.modeling.meta_arch.batch import are_clips
from mask2former.modeling.postprocess import JOINT, WINDOWS, PostProcessing, track_results
from mask2former.structures import MaskTargets


@META_ARCH_REGISTRY.register()
class VideoMaskFormer(MaskFormer):
    """Mask2Former for video instance segmentation (arXiv 2112.10764): network and losses are those of images.

    It differs in what it returns: the tracks of each clip. Images that come without a list get the results of images.

    Args:
        num_tracks: tracks of a clip that are returned.
        others: see :class:`~mask2former.modeling.meta_arch.MaskFormer`.
    """

    @configurable
    def __init__(self, *, num_tracks: int = 10, **others: Any) -> None:
        super().__init__(**others)
        self.num_tracks = num_tracks

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {**super().from_config(cfg), "num_tracks": cfg.MODEL.MASK_FORMER.TEST.TRACKS}

    @property
    def num_frames(self) -> None:
        """Clips have any number of frames; the published class has the number of a training here."""
        return None

    @property
    def sees_clips(self) -> bool:
        """Tell whether all frames of a clip go through the network at once."""
        decoder = self.sem_seg_head.get_submodule("predictor")
        return self.post_processing.clips.way in (JOINT, WINDOWS) and bool(getattr(decoder, "sees_clips", False))

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Train or infer; see :class:`~mask2former.modeling.meta_arch.SegmentationModel`.

        Returns:
            In training, the weighted losses. At inference of one clip its tracks, as published:
            :func:`~mask2former.modeling.postprocess.tracks.track_results`; of several, a list of these.
        """
        results = super().forward(batched_inputs)
        if not self.training and len(batched_inputs) == 1 and are_clips(batched_inputs):
            return results[0]  # type: ignore[index]
        return results

    def infer(self, batched_inputs: list[dict[str, Any]], settings: PostProcessing) -> list[dict[str, Any]]:
        """Return the tracks of each clip, or the results of each image.

        Raises:
            ValueError: see the base class; or a ``mask`` with a clip, which is understood for images alone.
        """
        if not are_clips(batched_inputs):
            return super().infer(batched_inputs, settings)
        if any(x.get("mask") is not None for x in batched_inputs):
            raise ValueError("VideoMaskFormer takes a `mask` with an image, not with a clip.")
        if settings.clips.way != JOINT:
            return super().infer(batched_inputs, settings)
        predicted = self._finite(batched_inputs)
        count = len(predicted) // len(batched_inputs)
        return [
            track_results(
                predicted[start][0], [masks for _, masks in predicted[start : start + count]], self.num_tracks
            )
            for start in range(0, len(predicted), count)
        ]

    def prepare_targets(self, batched_inputs: list[dict[str, Any]], batch: Batch) -> list[MaskTargets]:
        """Build targets; an object that is missing in a frame may have the class K there, as published mappers say.

        Its class is that of the frames that show it; objects that no frame shows are left out.
        """
        targets = super().prepare_targets(batched_inputs, batch)
        return [_of_seen(x, target, self.num_classes) for x, target in zip(batched_inputs, targets, strict=True)]


def _of_seen(inputs: dict[str, Any], target: MaskTargets, num_classes: int) -> MaskTargets:
    frames = inputs["instances"]
    if not isinstance(frames, list | tuple):
        return target
    by_frame: Tensor = torch.stack([frame.gt_classes.to(target.classes.device) for frame in frames])
    classes = by_frame.amin(0)
    seen = classes < num_classes
    return MaskTargets(classes[seen], target.masks[seen], target.void, target.semantic)
