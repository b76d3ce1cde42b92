"""Meta-architecture and heads: how backbone, pixel decoder and transformer decoder make one model."""

from mask2former.modeling.meta_arch.mask_former import MaskFormer
from mask2former.modeling.meta_arch.mask_former_head import MaskFormerHead
from mask2former.modeling.meta_arch.per_pixel_baseline import PerPixelBaselineHead, PerPixelBaselinePlusHead

__all__ = ["MaskFormer", "MaskFormerHead", "PerPixelBaselineHead", "PerPixelBaselinePlusHead"]
