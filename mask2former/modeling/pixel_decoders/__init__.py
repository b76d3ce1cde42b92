"""Pixel decoders: from backbone features to mask features and multi-scale features."""

from mask2former.modeling.pixel_decoders.fpn import BasePixelDecoder
from mask2former.modeling.pixel_decoders.msdeform import MSDeformAttnPixelDecoder
from mask2former.modeling.pixel_decoders.output import PixelDecoderOutput
from mask2former.modeling.pixel_decoders.transformer_fpn import TransformerEncoderPixelDecoder

__all__ = ["BasePixelDecoder", "MSDeformAttnPixelDecoder", "PixelDecoderOutput", "TransformerEncoderPixelDecoder"]
