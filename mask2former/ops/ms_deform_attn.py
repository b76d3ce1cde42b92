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
    """Sum bilinearly interpolated values at a few locations of each level, with the given weights.

    Equation 3 of Deformable DETR (arXiv 2010.04159): for each query and head, the sum over levels l and points p of
    ``attention_weights[l, p] * value_l(sampling_locations[l, p])``. Projections and softmax are the caller's;
    :func:`ms_deform_attn_fused` does the softmax itself.

    Locations run from 0 to 1 over a level's width and height, with pixel centres at ``(i + 0.5) / size``; pixels
    outside are zero, as in ``grid_sample(align_corners=False)``. A location that is not finite adds nothing.

    Half formats are summed in float32. Locations are always float32 (float64 if the values are): bfloat16
    distinguishes only some 256 of them. Under autocast, values and weights are cast to autocast's dtype unless they are
    float64, and locations are not.

    Runs the compiled operator if there is one for the device (``python -m mask2former.ops`` tells), else
    :func:`ms_deform_attn_reference`. All three tensors have gradients, which cannot be differentiated again.

    Args:
        value: [B, S, heads, C] float32, float64, float16 or bfloat16; the S positions level after level, row by row.
        spatial_shapes: (H, W) in pixels of each of L levels, Python integers; their products add up to S.
        sampling_locations: [B, Q, heads, L, P, 2] (x, y); half formats are widened.
        attention_weights: [B, Q, heads, L, P], in the dtype of ``value``.

    Returns:
        [B, Q, heads * C], in the dtype of ``value`` (under autocast: in autocast's).

    Raises:
        TypeError: an argument is not a tensor of floating point numbers, or dtypes differ.
        ValueError: shapes or devices do not match, or levels do not add up to S.
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
