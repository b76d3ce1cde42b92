"""Transformer decoders: from features to a set of (class distribution, mask) pairs."""

from mask2former.modeling.decoders.masked import MultiScaleMaskedTransformerDecoder
from mask2former.modeling.decoders.standard import StandardTransformerDecoder

__all__ = ["MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder"]
