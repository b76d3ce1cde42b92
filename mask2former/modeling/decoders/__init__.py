"""Transformer decoders: from features to a set of (class distribution, mask) pairs."""

from mask2former.modeling.decoders.masked import MultiScaleMaskedTransformerDecoder

__all__ = ["MultiScaleMaskedTransformerDecoder"]
