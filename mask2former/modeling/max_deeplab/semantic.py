"""The auxiliary semantic branch of MaX-DeepLab, which runs in training alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from mask2former.modeling.backbone.max_deeplab import SEMANTIC
from mask2former.modeling.layers.batch_norm import truncated_normal_
from mask2former.modeling.layers.conv_bn import resize_aligned
from mask2former.modeling.layers.conv_norm import ConvNorm, SeparableConv

_CHANNELS = 256
_RATES = (6, 12, 18)
_LOW_LEVEL = {"res3": 64, "res2": 32}  # channels of the finer features that are joined
_DROPOUT = 0.1


class PooledPyramid(nn.Module):
    """Atrous spatial pyramid pooling (arXiv 1706.05587): 1x1, three dilated 3x3, and the mean of all pixels."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv0 = ConvNorm(in_channels, _CHANNELS, relu=True)
        self.conv1, self.conv2, self.conv3 = (
            ConvNorm(in_channels, _CHANNELS, kernel_size=3, dilation=rate, relu=True) for rate in _RATES
        )
        self.pool = ConvNorm(in_channels, _CHANNELS, relu=True)
        self.project = ConvNorm(5 * _CHANNELS, _CHANNELS, relu=True)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] -> [B, 256, H, W]."""
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        parts = [conv(x) for conv in (self.conv0, self.conv1, self.conv2, self.conv3)]
        return self.dropout(self.project(torch.cat([*parts, pooled], 1)))


class FromRes5(nn.Module):
    """The branch's feature at stride 4 from "res5", "res3" and "res2"."""

    def __init__(self, input_shape: Mapping[str, ShapeSpec]) -> None:
        super().__init__()
        channels = {name: shape.channels or 0 for name, shape in input_shape.items()}
        self.aspp = PooledPyramid(channels["res5"])
        self.low1 = ConvNorm(channels["res3"], _LOW_LEVEL["res3"], relu=True)
        self.fuse1 = SeparableConv(_CHANNELS + _LOW_LEVEL["res3"], _CHANNELS)
        self.low2 = ConvNorm(channels["res2"], _LOW_LEVEL["res2"], relu=True)
        self.fuse2 = SeparableConv(_CHANNELS + _LOW_LEVEL["res2"], _CHANNELS)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute [B, 256, h, w]."""
        x = self.aspp(features["res5"])
        for name, low, fuse in (("res3", self.low1, self.fuse1), ("res2", self.low2, self.fuse2)):
            fine = low(features[name])
            x = fuse(torch.cat([resize_aligned(x, (fine.shape[-2], fine.shape[-1])), fine], 1))
        return x


class SemanticBranch(nn.Module):
    """Semantic logits of K + 1 classes, the last of which, void, has no pixels.

    Args:
        input_shape: channels of the backbone's features; with "semantic": that is read, or else "res5" through ASPP.
        num_classes: K.
    """

    def __init__(self, input_shape: Mapping[str, ShapeSpec], num_classes: int) -> None:
        super().__init__()
        self.decoder = None if SEMANTIC in input_shape else FromRes5(input_shape)
        channels = _CHANNELS if self.decoder is not None else input_shape[SEMANTIC].channels or 0
        self.conv = SeparableConv(channels, _CHANNELS)
        self.last = nn.Conv2d(_CHANNELS, num_classes + 1, 1)
        truncated_normal_(self.last.weight, 0.01)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits [B, K + 1, h, w] from the backbone's features."""
        x = features[SEMANTIC] if self.decoder is None else self.decoder(features)
        return self.last(self.conv(x))
