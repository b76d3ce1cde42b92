"""The head that joins a pixel decoder and a transformer decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.structures import MaskPrediction


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(nn.Module):
    """Pixel decoder, then transformer decoder.

    Args:
        input_shape: the backbone's features; kept for Detectron2's convention.
        pixel_decoder: backbone features -> ``PixelDecoderOutput``.
        transformer_decoder: (multi-scale features, mask features, T) -> ``MaskPrediction``.
    """

    @configurable
    def __init__(
        self, input_shape: Mapping[str, ShapeSpec], *, pixel_decoder: nn.Module, transformer_decoder: nn.Module
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.pixel_decoder = pixel_decoder
        self.predictor = transformer_decoder

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        if missing := [name for name in head.IN_FEATURES if name not in input_shape]:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES names {missing}, but the backbone gives {sorted(input_shape)}; "
                "set its OUT_FEATURES."
            )
        if cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE != "multi_scale_pixel_decoder":
            raise NotImplementedError(
                "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is "
                f"{cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE!r}; this release decodes "
                "'multi_scale_pixel_decoder' (Mask2Former)."
            )
        shapes = {name: input_shape[name] for name in head.IN_FEATURES}
        build = SEM_SEG_HEADS_REGISTRY.get
        return {
            "input_shape": shapes,
            "pixel_decoder": build(head.PIXEL_DECODER_NAME)(cfg, shapes),
            "transformer_decoder": build(cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME)(cfg, head.CONVS_DIM),
        }

    def forward(self, features: Mapping[str, Tensor], num_frames: int = 1) -> MaskPrediction:
        """``features``: [B * T, C, H, W] by name."""
        decoded = self.pixel_decoder({name: features[name] for name in self.in_features})
        return self.predictor(decoded.multi_scale_features, decoded.mask_features, num_frames)
