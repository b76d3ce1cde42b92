"""Multi-scale deformable attention at given locations with given weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mask2former.ops.checks import (
    accumulation_dtype,
    autocast,
    check_same_dtype,
    check_sizes,
    check_tensors,
    checked_shapes,
)
from mask2former.ops.library import use_compiled
from mask2former.ops.reference import ms_deform_attn_reference


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum values at a few places of each level, bilinearly interpolated, with the given weights.

    Equation 3 of Deformable DETR (arXiv 2010.04159): for each query and head, the sum over levels l and points p of
    ``attention_weights[l, p] * value_l(sampling_locations[l, p])``. Projections and softmax are the caller's;
    :func:`ms_deform_attn_fused` does the softmax itself.

    Locations run from 0 to 1 over a level's width and height, with pixel centres at ``(i + 0.5) / size``; pixels
    outside are zero, as in ``grid_sample(align_corners=False)``. A location that is not finite adds nothing.

    Half formats are summed in float32. Locations are always float32 (float64 where the values are): bfloat16 tells
    only some 256 places apart. Under autocast, float32 values and weights are brought to autocast's dtype and locations
    stay as they are.

    Runs the compiled operator where there is one for the device (``python -m mask2former.ops`` tells), else
    :func:`ms_deform_attn_reference`. Gradients are those of all three tensors, once.

    Args:
        value: [B, S, heads, C] float32, float64, float16 or bfloat16; the S positions level after level, row by row.
        spatial_shapes: (H, W) in pixels of each of L levels, Python integers; their products add up to S.
        sampling_locations: [B, Q, heads, L, P, 2] (x, y); a half format is widened.
        attention_weights: [B, Q, heads, L, P], of the dtype of ``value``.

    Returns:
        [B, Q, heads * C], of the dtype of ``value`` (under autocast: of autocast's).

    Raises:
        TypeError: an argument is no tensor of floating point numbers, or dtypes differ.
        ValueError: shapes or devices do not go together, or levels do not add up to S.
    """
    check_tensors(value=value, sampling_locations=sampling_locations, attention_weights=attention_weights)
    shapes = checked_shapes(spatial_shapes)
    check_sizes(value, shapes, sampling_locations=sampling_locations, attention_weights=attention_weights)

    value, attention_weights = autocast(value), autocast(attention_weights)
    check_same_dtype(value, attention_weights=attention_weights)
    sampling_locations = sampling_locations.to(accumulation_dtype(value.dtype))
    if not use_compiled(value.device.type):
        return ms_deform_attn_reference(value, shapes, sampling_locations, attention_weights)
    flat = [size for shape in shapes for size in shape]
    return torch.ops.mask2former.ms_deform_attn(value, flat, sampling_locations, attention_weights)
