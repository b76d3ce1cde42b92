"""Multi-scale deformable attention in plain PyTorch, for any device and as the reference for the compiled operators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def ms_deform_attn_reference(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute equation 3 of Deformable DETR (arXiv 2010.04159) by ``grid_sample``, one level after the other.

    Arguments and result are those of :func:`mask2former.ops.ms_deform_attn`, which also checks them. Half formats are
    summed in float32. Differentiable once, like ``grid_sample``.
    """
    batch, _, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    dtype = torch.promote_types(value.dtype, torch.float32)
    # A location more than a pixel outside is zero, however far. Clamping keeps `grid_sample` from converting huge
    # numbers to integers, and moves NaN, which it would read as a location in the image, outside too.
    locations = sampling_locations.to(dtype).clamp(-2, 3)
    locations = torch.where(locations.isnan(), -2.0, locations)
    # Queries last: sums over points then run along contiguous numbers.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5)  # [L, B, heads, P, Q, 2]
    weights = attention_weights.to(dtype).permute(3, 0, 2, 4, 1)  # [L, B, heads, P, Q]
    levels = value.to(dtype).split([height * width for height, width in spatial_shapes], dim=1)

    total = value.new_zeros(batch * heads, channels, queries, dtype=dtype)
    for index, (level, (height, width)) in enumerate(zip(levels, spatial_shapes, strict=True)):
        images = level.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = grids[index].flatten(0, 1)  # [B * heads, P, Q, 2]
        sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (sampled * weights[index].flatten(0, 1)[:, None]).sum(2)
    return total.view(batch, heads * channels, queries).transpose(1, 2).to(value.dtype)


def ms_deform_attn_fused_reference(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """Compute :func:`mask2former.ops.ms_deform_attn_fused` step by step; that function also checks the arguments."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    # Created on the device: copying numbers there from Python would wait for it.
    pixels = [torch.full((), 1 / size, dtype=dtype, device=value.device) for h, w in spatial_shapes for size in (w, h)]
    pixel_size = torch.stack(pixels).view(-1, 1, 2)  # [L, 1, 2]
    locations = reference_points.to(dtype)[:, :, None, :, None] + sampling_offsets.to(dtype) * pixel_size
    weights = attention_logits.to(dtype).flatten(-2).softmax(-1).view(attention_logits.shape)
    return ms_deform_attn_reference(value, spatial_shapes, locations, weights)
