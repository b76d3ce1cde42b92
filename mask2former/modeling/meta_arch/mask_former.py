"""The meta-architecture of MaskFormer and Mask2Former: backbone, pixel decoder, transformer decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from torch import Tensor, nn

from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.cpu import optimise_for_cpu
from mask2former.modeling.distillation import FEATURES, Distillation
from mask2former.modeling.mask_encoder import MaskEncoder
from mask2former.modeling.meta_arch.segmentation_model import SegmentationModel
from mask2former.modeling.postprocess import PostProcessing
from mask2former.structures import MaskPrediction


def _setting(name: str) -> Any:
    """Create a property, named as in the published class, for a field of the post-processing settings."""

    def read(self: MaskFormer) -> Any:
        return getattr(self.post_processing, name)

    def write(self: MaskFormer, value: Any) -> None:
        self.post_processing = replace(self.post_processing, **{name: value})

    return property(read, write, doc=f"``{name}`` of ``post_processing``.")


@META_ARCH_REGISTRY.register()
class MaskFormer(SegmentationModel):
    """MaskFormer and Mask2Former, for semantic, panoptic and instance segmentation (arXiv 2107.06278, 2112.01527).

    Args:
        backbone: images [B, 3, H, W] -> features by name.
        sem_seg_head: features -> ``MaskPrediction``.
        mask_encoder: (features, guide) -> features, for masks that come with images; None: those are regions of
            interest.
        criterion, pixel_mean, pixel_std, size_divisibility, post_processing, metadata, distillation: see
            :class:`~mask2former.modeling.meta_arch.segmentation_model.SegmentationModel`.
    """

    semantic_on = _setting("semantic_on")
    panoptic_on = _setting("panoptic_on")
    instance_on = _setting("instance_on")
    object_mask_threshold = _setting("object_mask_threshold")
    overlap_threshold = _setting("overlap_threshold")
    sem_seg_postprocess_before_inference = _setting("resize_before_semantic")
    test_topk_per_image = _setting("detections_per_image")

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        post_processing: PostProcessing,
        metadata: Any = None,
        mask_encoder: nn.Module | None = None,
        distillation: nn.Module | None = None,
    ) -> None:
        super().__init__(
            criterion=criterion,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            size_divisibility=size_divisibility,
            post_processing=post_processing,
            metadata=metadata,
            distillation=distillation,
        )
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.mask_encoder = mask_encoder

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        head = build_sem_seg_head(cfg, backbone.output_shape())
        optimise_for_cpu(backbone)
        optimise_for_cpu(head)
        if cfg.MODEL.CHECKPOINT:
            names = {"pixel_decoder": "pixel_decoder", "transformer_decoder": "predictor"}
            parts = {part: getattr(head, name) for part, name in names.items() if hasattr(head, name)}
            checkpoint_activations(cfg.MODEL.CHECKPOINT, {"backbone": backbone, **parts})
        shapes = backbone.output_shape()
        return {
            **cls.settings_from_config(cfg, backbone.size_divisibility),
            "backbone": backbone,
            "sem_seg_head": head,
            "mask_encoder": MaskEncoder(cfg, shapes) if cfg.MODEL.MASK_ENCODER.ENABLED else None,
            "distillation": Distillation(cfg, shapes) if cfg.MODEL.DISTILLATION.ENABLED else None,
        }

    @property
    def num_classes(self) -> int:
        return cast(int, self.sem_seg_head.get_submodule("predictor").num_classes)

    @property
    def num_queries(self) -> int:
        """Q."""
        return cast(int, self.sem_seg_head.get_submodule("predictor").num_queries)

    @property
    def takes_masks(self) -> bool:  # type: ignore[override]
        """Tell whether there is a mask encoder."""
        return self.mask_encoder is not None

    def network(self, images: Tensor, num_frames: int = 1, guide: Tensor | None = None) -> MaskPrediction:
        features = self.backbone(images)
        if guide is not None and self.mask_encoder is not None:
            features = self.mask_encoder(features, guide)
        prediction = self.sem_seg_head(features, num_frames)
        if self.keeps_features and (self.training or self.distillation is None):  # of a student, or a teacher
            prediction.extras |= {FEATURES + name: feature for name, feature in features.items()}
        return prediction
