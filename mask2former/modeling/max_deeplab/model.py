"""The meta-architecture of MaX-DeepLab."""

from __future__ import annotations

from typing import Any, cast

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from mask2former.modeling.meta_arch import MaskFormer


@META_ARCH_REGISTRY.register()
class MaXDeepLab(MaskFormer):
    """MaX-DeepLab (arXiv 2012.00759): MaskFormer's parts, on canvases whose sides are multiples of 16 plus 1.

    The sides of the features are then multiples plus 1 too, and corners are aligned wherever a map is resized.
    ``MODEL.MASK_FORMER.SIZE_DIVISIBILITY`` 1024 is the published canvas of 1025 x 1025 pixels, for small images too.
    """

    size_offset = 1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        if cfg.MODEL.MASK_ENCODER.ENABLED:
            raise ValueError(
                "MODEL.MASK_ENCODER adds to features after the backbone, where MaX-DeepLab's memory does not see "
                "it any more. Set MODEL.MASK_ENCODER.ENABLED to False, or take another model."
            )
        return super().from_config(cfg)

    @property
    def num_classes(self) -> int:
        return cast(int, self.sem_seg_head.num_classes)

    @property
    def num_queries(self) -> int:
        return cast(int, self.sem_seg_head.num_queries)
