"""The head of kMaX-DeepLab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.transformer_decoder import find_transformer_decoder
from mask2former.structures import MaskPrediction


@SEM_SEG_HEADS_REGISTRY.register()
class kMaXDeepLabHead(nn.Module):
    """Pixel decoder, then transformer decoder, which reads the pixel decoder's levels and has its own pixel features.

    Args:
        pixel_decoder: backbone features -> ``PixelDecoderOutput``.
        transformer_decoder: (levels, last level, backbone features or None) -> ``MaskPrediction``.
    """

    @configurable
    def __init__(self, *, pixel_decoder: nn.Module, transformer_decoder: nn.Module) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = transformer_decoder  # the published name

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.KMAX_DEEPLAB
        pixels = SEM_SEG_HEADS_REGISTRY.get(node.PIXEL_DEC.NAME)(cfg, input_shape)
        levels, last = pixels.out_channels[: len(node.TRANS_DEC.DEC_LAYERS)], pixels.out_channels[-1]
        decoder = find_transformer_decoder(node.TRANS_DEC.NAME)
        return {"pixel_decoder": pixels, "transformer_decoder": decoder(cfg, input_shape, levels, last)}

    def forward(self, features: Mapping[str, Tensor], num_frames: int = 1) -> MaskPrediction:
        """Predict from ``features`` [B, C, h, w] by name.

        Raises:
            ValueError: clips of several frames.
        """
        if num_frames != 1:
            raise ValueError(f"kMaX-DeepLab takes single images; found clips of {num_frames} frames.")
        decoded = self.pixel_decoder(features)
        return self.predictor(decoded.multi_scale_features, decoded.mask_features, features if self.training else None)
