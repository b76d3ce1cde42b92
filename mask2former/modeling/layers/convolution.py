"""Convolutions of a feature pyramid."""

from __future__ import annotations

import fvcore.nn.weight_init as weight_init
from detectron2.layers import Conv2d, get_norm
from torch.nn import functional as F


def pyramid_conv(in_channels: int, out_channels: int, norm: str, *, kernel_size: int, relu: bool = False) -> Conv2d:
    """Create a size-preserving convolution, then ``norm`` (Detectron2's names; "": a bias instead), then maybe ReLU."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
        activation=F.relu_ if relu else None,
    )
    weight_init.c2_xavier_fill(conv)
    return conv
