"""The meta-architecture of MaX-DeepLab."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head

from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.backbone.max_deeplab import D2MaXDeepLab
from mask2former.modeling.meta_arch import MaskFormer


@META_ARCH_REGISTRY.register()
class MaXDeepLab(MaskFormer):
    """MaX-DeepLab (arXiv 2012.00759), on canvases whose sides are multiples plus 1.

    The sides of the features are then multiples plus 1 too, and corners are aligned wherever a map is resized. Any
    number of pixels goes; 16 is the least ``MODEL.MASK_FORMER.SIZE_DIVISIBILITY``, and 640 or 1024 give the published
    canvases of 641 and 1025 pixels a side, for small images too.
    """

    size_offset = 1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        if not isinstance(backbone, D2MaXDeepLab):
            raise ValueError(
                f"MODEL.META_ARCHITECTURE MaXDeepLab needs MODEL.BACKBONE.NAME D2MaXDeepLab, whose memory the head "
                f"reads; found {cfg.MODEL.BACKBONE.NAME}."
            )
        for key in ("MASK_ENCODER", "DISTILLATION"):
            if cfg.MODEL[key].ENABLED:
                raise ValueError(f"MODEL.{key}.ENABLED is True, which MaX-DeepLab does not know; set it to False.")
        checkpoint_activations(cfg.MODEL.CHECKPOINT, {"backbone": backbone})
        return {
            **cls.settings_from_config(cfg, backbone.size_divisibility),
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
        }

    @property
    def num_classes(self) -> int:
        return int(self.sem_seg_head.num_classes)  # type: ignore[arg-type]

    @property
    def num_queries(self) -> int:
        """N, the slots."""
        backbone = self.backbone
        assert isinstance(backbone, D2MaXDeepLab)
        return backbone.num_slots
