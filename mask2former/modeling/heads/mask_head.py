"""The head that joins a pixel decoder and a transformer decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.pixel_decoders import PixelDecoderOutput
from mask2former.structures import MaskPrediction

_MULTI_SCALE, _ENCODED, _MASK_FEATURES = "multi_scale_pixel_decoder", "transformer_encoder", "pixel_embedding"


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(nn.Module):
    """Pixel decoder, then transformer decoder.

    Args:
        input_shape: the backbone's features; kept for Detectron2's convention.
        pixel_decoder: backbone features -> ``PixelDecoderOutput``.
        transformer_decoder: (what it attends to, mask features, T) -> ``MaskPrediction``.
        transformer_in_feature: what the transformer decoder attends to: "multi_scale_pixel_decoder", the pixel
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
        transformer_in_feature: str = _MULTI_SCALE,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.pixel_decoder = pixel_decoder
        self.predictor = transformer_decoder
        self.transformer_in_feature = transformer_in_feature

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        if missing := [name for name in head.IN_FEATURES if name not in input_shape]:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES names {missing}, but the backbone gives {sorted(input_shape)}; "
                "set its OUT_FEATURES."
            )
        shapes = {name: input_shape[name] for name in head.IN_FEATURES}
        in_feature = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
        decoder_name = cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
        decoder = SEM_SEG_HEADS_REGISTRY.get(decoder_name)
        if decoder.multi_scale != (in_feature == _MULTI_SCALE):
            wants = repr(_MULTI_SCALE) if decoder.multi_scale else "one feature"
            raise ValueError(
                f"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME is {decoder_name}, which attends to {wants}, "
                f"but MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {in_feature!r}."
            )
        channels = {_MULTI_SCALE: head.CONVS_DIM, _ENCODED: head.CONVS_DIM, _MASK_FEATURES: head.MASK_DIM}
        channels |= {name: shape.channels for name, shape in input_shape.items()}
        if in_feature not in channels:
            raise ValueError(
                f"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {in_feature!r}; known are {', '.join(sorted(channels))}."
            )
        return {
            "input_shape": shapes,
            "pixel_decoder": SEM_SEG_HEADS_REGISTRY.get(head.PIXEL_DECODER_NAME)(cfg, shapes),
            "transformer_decoder": decoder(cfg, channels[in_feature]),
            "transformer_in_feature": in_feature,
        }

    def forward(self, features: Mapping[str, Tensor], num_frames: int = 1) -> MaskPrediction:
        """``features``: [B * T, C, H, W] by name."""
        decoded = self.pixel_decoder({name: features[name] for name in self.in_features})
        return self.predictor(self._attended(features, decoded), decoded.mask_features, num_frames)

    def _attended(self, features: Mapping[str, Tensor], decoded: PixelDecoderOutput) -> Tensor | list[Tensor]:
        """What the transformer decoder attends to."""
        if self.transformer_in_feature == _MULTI_SCALE:
            return decoded.multi_scale_features
        if self.transformer_in_feature == _MASK_FEATURES:
            return decoded.mask_features
        if self.transformer_in_feature != _ENCODED:
            return features[self.transformer_in_feature]
        if decoded.encoded is None:
            raise ValueError(
                f"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {_ENCODED!r}, but the pixel decoder has no encoder."
            )
        return decoded.encoded
