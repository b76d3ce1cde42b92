"""The model. Importing it registers its parts in Detectron2's registries."""

from mask2former.modeling.backbones import D2SwinTransformer, TimmBackbone
from mask2former.modeling.decoders import MultiScaleMaskedTransformerDecoder, StandardTransformerDecoder
from mask2former.modeling.heads import MaskFormerHead, PerPixelBaselineHead, PerPixelBaselinePlusHead
from mask2former.modeling.meta_arch import MaskFormer
from mask2former.modeling.pixel_decoders import (
    BasePixelDecoder,
    MSDeformAttnPixelDecoder,
    TransformerEncoderPixelDecoder,
)

__all__ = [
    "BasePixelDecoder",
    "D2SwinTransformer",
    "MSDeformAttnPixelDecoder",
    "MaskFormer",
    "MaskFormerHead",
    "MultiScaleMaskedTransformerDecoder",
    "PerPixelBaselineHead",
    "PerPixelBaselinePlusHead",
    "StandardTransformerDecoder",
    "TimmBackbone",
    "TransformerEncoderPixelDecoder",
]
