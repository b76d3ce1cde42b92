"""The pixel decoder of SegViT, which only projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.pixel_decoder import PixelDecoderOutput
from mask2former.modeling.segvit.layer import init_truncated


class Projection(nn.Module):
    """A linear layer and a norm, from D to C channels of each pixel."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels)
        self.norm = nn.LayerNorm(channels)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:
        """Project [B, D, H, W] to [B, H W, C]."""
        return self.norm(self.linear(x.flatten(2).transpose(1, 2)))


@SEM_SEG_HEADS_REGISTRY.register()
class ProjectingPixelDecoder(nn.Module):
    """Backbone features to C channels each, the last of ``IN_FEATURES`` first (SegViT, arXiv 2210.05844, section 3.2).

    Args:
        input_shape: channels of the backbone features, shallow to deep.
        conv_dim: C.
    """

    checkpoint_layers = (Projection,)

    @configurable
    def __init__(self, input_shape: Mapping[str, ShapeSpec], *, conv_dim: int) -> None:
        super().__init__()
        self.features = list(input_shape)[::-1]
        self.projections = nn.ModuleList(Projection(input_shape[name].channels, conv_dim) for name in self.features)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {"input_shape": input_shape, "conv_dim": cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM}

    def forward(self, features: Mapping[str, Tensor]) -> PixelDecoderOutput:
        """Project ``features``, [B, D, H, W] by name. The mask features are the last level; SegViT makes its own."""
        levels = []
        for name, projection in zip(self.features, self.projections, strict=True):
            x = features[name]
            levels.append(projection(x).transpose(1, 2).unflatten(2, x.shape[-2:]))
        return PixelDecoderOutput(levels[-1], levels)
