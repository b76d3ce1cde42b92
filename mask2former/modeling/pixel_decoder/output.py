"""The output of pixel decoders, from which heads take the input of the transformer decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

HOW_TO_GIVE = "set its OUT_FEATURES (of a PlainViT: MODEL.VIT.OUT_BLOCKS)."
"""Say what to do where a backbone lacks a feature."""


class PixelDecoderOutput(NamedTuple):
    """Features of B * T images.

    Attributes:
        mask_features: [B * T, mask_dim, H, W] at the finest stride; masks are their product with the mask embeddings.
        multi_scale_features: [B * T, C, H_l, W_l] of each level, coarse to fine.
        encoded: [B * T, C, H_l, W_l], the coarsest level after a transformer encoder; None without one.
    """

    mask_features: Tensor
    multi_scale_features: list[Tensor]
    encoded: Tensor | None = None
