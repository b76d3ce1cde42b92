"""Heads: everything after the backbone."""

from mask2former.modeling.heads.mask_head import MaskFormerHead
from mask2former.modeling.heads.per_pixel import PerPixelBaselineHead, PerPixelBaselinePlusHead

__all__ = ["MaskFormerHead", "PerPixelBaselineHead", "PerPixelBaselinePlusHead"]
