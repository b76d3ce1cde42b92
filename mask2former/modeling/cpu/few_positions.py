"""Convolutions of so few positions that to lay out the weights would take longer than to multiply by them.

At inference, and in training where normalisation is frozen, both through
:mod:`~mask2former.modeling.cpu.fused_block`.
"""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d
from torch import Tensor
from torch.nn import functional as F

# Positions of a whole batch up to which it pays: 512 channels by 3x3 take 2.7 ms instead of 8.1 for 16 of them, 13.0
# instead of 17.3 for 128, and as long for 256 (AMD EPYC, one thread, weights that are not in its cache).
MOST_POSITIONS = 128


def has_few_positions(conv: Conv2d, x: Tensor) -> bool:
    """Tell whether :func:`product_with_windows` is the faster way to convolve x [B, C, H, W] in float32."""
    down, across = conv.stride
    positions = x.shape[0] * -(-x.shape[2] // down) * -(-x.shape[3] // across)
    return positions <= MOST_POSITIONS and x.dtype == conv.weight.dtype == torch.float32 and conv.groups == 1


def product_with_windows(conv: Conv2d, x: Tensor) -> Tensor:
    """Convolve x [B, C, H, W] without bias as one matrix product, whose weights stay where they lie.

    Returns:
        [B, C', h, w] in ``channels_last``, equal to that of oneDNN but for rounding.
    """
    if conv.kernel_size == (1, 1) and conv.padding == (0, 0):
        windows = x[:, :, :: conv.stride[0], :: conv.stride[1]]
        height, width = windows.shape[-2:]
        rows = windows.permute(0, 2, 3, 1).flatten(0, 2)
    else:
        sides = zip(x.shape[2:], conv.padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
        height, width = ((side + 2 * pad - hole * (size - 1) - 1) // step + 1 for side, pad, hole, size, step in sides)
        columns = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
        rows = columns.transpose(1, 2).flatten(0, 1)
    product = rows @ conv.weight.flatten(1).T
    return product.view(len(x), height, width, conv.out_channels).permute(0, 3, 1, 2)
