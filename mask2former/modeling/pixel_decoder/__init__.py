"""Pixel decoders: backbone features to mask features and multi-scale features."""

from mask2former.modeling.pixel_decoder.fpn import BasePixelDecoder
from mask2former.modeling.pixel_decoder.msdeformattn import MSDeformAttnPixelDecoder
from mask2former.modeling.pixel_decoder.output import HOW_TO_GIVE, PixelDecoderOutput
from mask2former.modeling.pixel_decoder.transformer_fpn import TransformerEncoderPixelDecoder

__all__ = [
    "HOW_TO_GIVE",
    "BasePixelDecoder",
    "MSDeformAttnPixelDecoder",
    "PixelDecoderOutput",
    "TransformerEncoderPixelDecoder",
]
