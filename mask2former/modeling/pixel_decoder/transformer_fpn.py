"""A feature pyramid network on top of a transformer encoder of the coarsest feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fvcore.nn.weight_init as weight_init
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.layers.position_encoding import SinePositionEncoding
from mask2former.modeling.layers.transformer import EncoderLayer
from mask2former.modeling.pixel_decoder.fpn import BasePixelDecoder


@SEM_SEG_HEADS_REGISTRY.register()
class TransformerEncoderPixelDecoder(BasePixelDecoder):
    """Transformer encoder (DETR, arXiv 2005.12872) over the coarsest feature, then the pyramid of the parent class.

    MaskFormer's panoptic models use it (arXiv 2107.06278, appendix A).

    Args:
        input_shape, conv_dim, mask_dim, norm: see :class:`BasePixelDecoder`.
        num_heads, dim_feedforward, num_layers, dropout, pre_norm: settings of the transformer.
    """

    checkpoint_layers = (EncoderLayer,)

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        conv_dim: int,
        mask_dim: int,
        norm: str,
        num_heads: int,
        dim_feedforward: int,
        num_layers: int,
        dropout: float,
        pre_norm: bool,
    ) -> None:
        super().__init__(input_shape, conv_dim=conv_dim, mask_dim=mask_dim, norm=norm)
        self.input_proj = Conv2d(input_shape[self.features[0]].channels, conv_dim, kernel_size=1)
        weight_init.c2_xavier_fill(self.input_proj)
        self.position_encoding = SinePositionEncoding(conv_dim)
        self.layers = nn.ModuleList(
            EncoderLayer(
                conv_dim, num_heads=num_heads, dim_feedforward=dim_feedforward, dropout=dropout, pre_norm=pre_norm
            )
            for _ in range(num_layers)
        )
        self.encoder_norm = nn.LayerNorm(conv_dim) if pre_norm else nn.Identity()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        return super().from_config(cfg, input_shape) | {
            "num_heads": node.NHEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "num_layers": cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS,
            "dropout": node.DROPOUT,
            "pre_norm": node.PRE_NORM,
        }

    def _coarsest_channels(self, backbone_channels: int, conv_dim: int) -> int:
        return conv_dim

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        size = (x.shape[-2], x.shape[-1])
        position = self.position_encoding(size, device=x.device, dtype=self.input_proj.weight.dtype).flatten(1).T
        x = self.input_proj(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, position)
        encoded = self.encoder_norm(x).transpose(1, 2).unflatten(2, size)
        return encoded, encoded
