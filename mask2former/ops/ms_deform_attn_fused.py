"""Multi-scale deformable attention on the outputs of a model's linear layers: the function that models call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mask2former.ops.checks import (
    accumulation_dtype,
    autocast,
    check_reference_points,
    check_same_dtype,
    check_sizes,
    check_tensors,
    checked_shapes,
)
from mask2former.ops.library import use_compiled
from mask2former.ops.reference import ms_deform_attn_fused_reference


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """Compute deformable attention, with the softmax and the arithmetic of locations inside.

    Equation 3 of Deformable DETR (arXiv 2010.04159): :func:`mask2former.ops.ms_deform_attn` at ``reference_points +
    sampling_offsets / (width, height)`` of each level, with the softmax of ``attention_logits`` over all points of all
    levels as weights. The compiled operator stores neither locations nor weights, which would take most of the memory,
    and keeps only the arguments for autograd. Softmax, locations and sums are float32 for half formats too.

    Under autocast, ``value``, ``sampling_offsets`` and ``attention_logits`` are cast to autocast's dtype unless they
    are float64, and reference points are not. Runs the compiled operator if there is one for the device
    (``python -m mask2former.ops`` tells), else plain PyTorch. All four tensors have gradients, which cannot be
    differentiated again.

    Args:
        value: [B, S, heads, C] float32, float64, float16 or bfloat16; the S positions level after level, row by row.
        spatial_shapes: (H, W) in pixels of each of L levels, Python integers; their products add up to S.
        reference_points: [B, Q, L, 2] (x, y) in [0, 1] of a level's width and height; each of B, Q and L may be 1 and
            is then broadcast without a copy. Used as float32 (float64 if ``value`` is).
        sampling_offsets: [B, Q, heads, L, P, 2] (x, y) in pixels of the level, in the dtype of ``value``.
        attention_logits: [B, Q, heads, L, P], in the dtype of ``value``.

    Returns:
        [B, Q, heads * C], in the dtype of ``value`` (under autocast: in autocast's).

    Raises:
        TypeError: an argument is not a tensor of floating point numbers, or dtypes differ.
        ValueError: shapes or devices do not match, or levels do not add up to S.
    """
    check_tensors(
        value=value,
        reference_points=reference_points,
        sampling_offsets=sampling_offsets,
        attention_logits=attention_logits,
    )
    shapes = checked_shapes(spatial_shapes)
    check_sizes(value, shapes, sampling_offsets=sampling_offsets, attention_logits=attention_logits)
    check_reference_points(value, shapes, reference_points, sampling_offsets.shape[1])

    value, offsets, logits = autocast(value), autocast(sampling_offsets), autocast(attention_logits)
    check_same_dtype(value, sampling_offsets=offsets, attention_logits=logits)
    references = reference_points.to(accumulation_dtype(value.dtype))
    if not use_compiled(value.device.type):
        return ms_deform_attn_fused_reference(value, shapes, references, offsets, logits)
    flat = [size for shape in shapes for size in shape]
    return torch.ops.mask2former.ms_deform_attn_fused(value, flat, references, offsets, logits)
