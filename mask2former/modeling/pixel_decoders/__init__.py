"""Pixel decoders: from backbone features to mask features and multi-scale features."""

from mask2former.modeling.pixel_decoders.msdeform import MSDeformAttnPixelDecoder
from mask2former.modeling.pixel_decoders.output import PixelDecoderOutput

__all__ = ["MSDeformAttnPixelDecoder", "PixelDecoderOutput"]
