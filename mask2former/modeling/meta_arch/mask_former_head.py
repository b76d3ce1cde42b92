"""The head that joins a pixel decoder and a transformer decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.meta_arch.decoder_input import (
    MULTI_SCALE,
    pixel_decoder_from_config,
    select_decoder_input,
    transformer_decoder_from_config,
)
from mask2former.structures import MaskPrediction


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(nn.Module):
    """Pixel decoder, then transformer decoder.

    Args:
        input_shape: channels and stride of the backbone features that the pixel decoder reads.
        pixel_decoder: backbone features -> ``PixelDecoderOutput``.
        transformer_decoder: (features attended to, mask features, T) -> ``MaskPrediction``.
        transformer_in_feature: features that the transformer decoder attends to: "multi_scale_pixel_decoder", the pixel
            decoder's levels (Mask2Former); "transformer_encoder", its encoder's output; "pixel_embedding", the mask
            features; or a feature of the backbone (MaskFormer).
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        pixel_decoder: nn.Module,
        transformer_decoder: nn.Module,
        transformer_in_feature: str = MULTI_SCALE,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.pixel_decoder = pixel_decoder
        self.predictor = transformer_decoder  # the published name
        self.transformer_in_feature = transformer_in_feature

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        pixel_decoder, shapes = pixel_decoder_from_config(cfg, input_shape)
        return {
            "input_shape": shapes,
            "pixel_decoder": pixel_decoder,
            "transformer_decoder": transformer_decoder_from_config(cfg, input_shape),
            "transformer_in_feature": cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE,
        }

    def forward(self, features: Mapping[str, Tensor], num_frames: int = 1) -> MaskPrediction:
        """Predict from ``features`` [B * T, C, H, W] by name."""
        decoded = self.pixel_decoder({name: features[name] for name in self.in_features})
        memory = select_decoder_input(self.transformer_in_feature, features, decoded)
        return self.predictor(memory, decoded.mask_features, num_frames)
