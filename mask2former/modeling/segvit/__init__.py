"""SegViT and Shrunk: masks that are the attention maps of class queries over a plain ViT (arXiv 2210.05844)."""

from mask2former.modeling.segvit.class_matcher import ClassMatcher
from mask2former.modeling.segvit.decoder import AttentionToMaskCascade, AttentionToMaskDecoder
from mask2former.modeling.segvit.projection import ProjectingPixelDecoder
from mask2former.modeling.segvit.query_upsampling import QueryUpsamplingPixelDecoder

__all__ = [
    "AttentionToMaskCascade",
    "AttentionToMaskDecoder",
    "ClassMatcher",
    "ProjectingPixelDecoder",
    "QueryUpsamplingPixelDecoder",
]
