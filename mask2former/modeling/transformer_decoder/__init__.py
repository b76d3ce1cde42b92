"""Transformer decoders: features to a set of (class distribution, mask) pairs."""

from mask2former.modeling.transformer_decoder.located_queries import LocatedQueryDecoder
from mask2former.modeling.transformer_decoder.mask2former_transformer_decoder import MultiScaleMaskedTransformerDecoder
from mask2former.modeling.transformer_decoder.maskformer_transformer_decoder import StandardTransformerDecoder
from mask2former.modeling.transformer_decoder.registry import TRANSFORMER_DECODER_REGISTRY, find_transformer_decoder

__all__ = [
    "TRANSFORMER_DECODER_REGISTRY",
    "LocatedQueryDecoder",
    "MultiScaleMaskedTransformerDecoder",
    "StandardTransformerDecoder",
    "find_transformer_decoder",
]
