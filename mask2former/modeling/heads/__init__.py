"""Heads: everything after the backbone."""

from mask2former.modeling.heads.mask_head import MaskFormerHead

__all__ = ["MaskFormerHead"]
