"""The pixel decoder of Mask2Former: deformable attention over the coarse levels, then an FPN to the finest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.convolution import pyramid_conv
from mask2former.modeling.layers.deformable_attention import DeformableSelfAttention, PixelGrid
from mask2former.modeling.layers.position_encoding import SinePositionEncoding
from mask2former.modeling.layers.residual import FeedForward
from mask2former.modeling.pixel_decoder.fpn import pyramid_from_config
from mask2former.modeling.pixel_decoder.output import PixelDecoderOutput


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention, then a feed-forward network; post-norm."""

    def __init__(
        self,
        channels: int,
        *,
        num_levels: int,
        num_heads: int,
        num_points: int,
        dim_feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attention = DeformableSelfAttention(
            channels, num_levels=num_levels, num_heads=num_heads, num_points=num_points, dropout=dropout
        )
        self.feed_forward = FeedForward(channels, dim_feedforward, dropout=dropout)
        nn.init.xavier_uniform_(self.feed_forward.linear1.weight)
        nn.init.xavier_uniform_(self.feed_forward.linear2.weight)

    def forward(self, x: Tensor, position: Tensor, grid: PixelGrid) -> Tensor:
        return self.feed_forward(self.self_attention(x, position, grid))


@SEM_SEG_HEADS_REGISTRY.register()
class MSDeformAttnPixelDecoder(nn.Module):
    """Multi-scale deformable attention pixel decoder (Mask2Former, arXiv 2112.01527, section 3.2.2).

    Padding is treated as part of the image, as in the published system, because trained weights rely on it.

    Args:
        input_shape: channels and stride of the backbone features; those finer than ``transformer_in_features`` are
            merged top-down as in an FPN, down to ``common_stride``.
        transformer_in_features: names of the features that the transformer encodes.
        conv_dim: C of the transformer and of the FPN.
        mask_dim: channels of the mask features.
        norm: normalisation of the FPN convolutions (Detectron2's names).
        num_heads, num_points, dim_feedforward, num_layers, dropout: settings of the transformer.
        common_stride: stride of the finest feature that is merged, and so of the mask features, in pixels.
    """

    checkpoint_layers = (DeformableEncoderLayer,)

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        transformer_in_features: list[str],
        conv_dim: int,
        mask_dim: int,
        norm: str,
        num_heads: int,
        num_points: int,
        dim_feedforward: int,
        num_layers: int,
        dropout: float,
        common_stride: int,
    ) -> None:
        super().__init__()
        by_stride = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.encoder_features = [name for name in reversed(by_stride) if name in transformer_in_features]
        if missing := set(transformer_in_features) - set(by_stride):
            raise ValueError(f"The backbone gives {by_stride}, but the pixel decoder was asked for {sorted(missing)}.")
        finest = input_shape[self.encoder_features[-1]].stride
        self.fpn_features = [n for n in reversed(by_stride) if common_stride <= input_shape[n].stride < finest]

        self.input_proj = nn.ModuleList(
            _input_projection(input_shape[name].channels, conv_dim) for name in self.encoder_features
        )
        self.level_embed = nn.Parameter(torch.randn(len(self.encoder_features), conv_dim))
        self.position_encoding = SinePositionEncoding(conv_dim)
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                conv_dim,
                num_levels=len(self.encoder_features),
                num_heads=num_heads,
                num_points=num_points,
                dim_feedforward=dim_feedforward,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )

        self.lateral_convs = nn.ModuleList(
            pyramid_conv(input_shape[name].channels, conv_dim, norm, kernel_size=1) for name in self.fpn_features
        )
        self.output_convs = nn.ModuleList(
            pyramid_conv(conv_dim, conv_dim, norm, kernel_size=3, relu=True) for _ in self.fpn_features
        )
        self.mask_features = Conv2d(conv_dim, mask_dim, kernel_size=1)
        weight_init.c2_xavier_fill(self.mask_features)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return pyramid_from_config(cfg, input_shape) | {
            "transformer_in_features": head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            "num_heads": cfg.MODEL.MASK_FORMER.NHEADS,
            "num_points": head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS,
            "dim_feedforward": head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD,
            "num_layers": head.TRANSFORMER_ENC_LAYERS,
            "dropout": cfg.MODEL.MASK_FORMER.DROPOUT,
            "common_stride": head.COMMON_STRIDE,
        }

    def forward(self, features: Mapping[str, Tensor]) -> PixelDecoderOutput:
        """Decode ``features``, float [B, C, H, W] by name."""
        levels = self._encode([features[name] for name in self.encoder_features])
        finest = levels[-1]
        for name, lateral, output in zip(self.fpn_features, self.lateral_convs, self.output_convs, strict=True):
            skip = lateral(features[name])
            # A level is a slice of a larger tensor, so interpolation could not tell its memory layout and would convert
            # its large result. Copying the small input to the layout of ``skip`` avoids that.
            layout = torch.channels_last if skip.is_contiguous(memory_format=torch.channels_last) else None
            coarse = finest.clone(memory_format=layout or torch.contiguous_format)
            skip += F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            finest = output(skip)
        return PixelDecoderOutput(self.mask_features(finest), levels, levels[0])

    def _encode(self, features: list[Tensor]) -> list[Tensor]:
        """Run the transformer over all levels at once; return [B, conv_dim, H_l, W_l] of each, coarse to fine."""
        projected = [projection(x) for projection, x in zip(self.input_proj, features, strict=True)]
        device = projected[0].device
        grid = PixelGrid.of([_size(x) for x in projected], device)
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in projected], dim=1)
        position = torch.cat(
            [
                self.position_encoding(size, device=device, dtype=embed.dtype).flatten(1).T + embed
                for size, embed in zip(grid.sizes, self.level_embed, strict=True)
            ]
        )
        for layer in self.layers:
            x = layer(x, position, grid)
        split = x.transpose(1, 2).split([height * width for height, width in grid.sizes], dim=2)
        return [level.unflatten(2, size) for level, size in zip(split, grid.sizes, strict=True)]


def _size(x: Tensor) -> tuple[int, int]:
    """Return (H, W). `torch.jit.trace` makes them tensors; `torch.export` makes them symbols, which `int` would fix."""
    height, width = (int(size) if isinstance(size, Tensor) else size for size in x.shape[-2:])
    return height, width


def _input_projection(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(32, out_channels))
