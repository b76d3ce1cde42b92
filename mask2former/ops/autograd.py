"""Shapes and derivatives of the compiled operators, for PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def register() -> None:
    """Register shapes and derivatives. Call it once, after loading the library that holds the schema."""
    for name, fake, fake_backward, differentiate in (
        ("ms_deform_attn", _fake, _fake_backward, _differentiate),
        ("ms_deform_attn_fused", _fake_fused, _fake_fused_backward, _differentiate_fused),
    ):
        torch.library.register_fake(f"mask2former::{name}", fake)
        torch.library.register_fake(f"mask2former::{name}_backward", fake_backward)
        torch.library.register_autograd(f"mask2former::{name}", differentiate, setup_context=_remember)
        torch.library.register_autograd(f"mask2former::{name}_backward", _refuse)


def _fake(
    value: Tensor, spatial_shapes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, sampling_locations.shape[1], heads * channels)


def _fake_fused(
    value: Tensor,
    spatial_shapes: Sequence[int],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    return _fake(value, spatial_shapes, sampling_offsets, attention_logits)


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (value, sampling_locations, attention_weights)
    grad_value, grad_locations, grad_weights = (x.new_empty(x.shape) for x in inputs)
    return grad_value, grad_locations, grad_weights


def _fake_fused_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Sequence[int],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_backward(grad_output, value, spatial_shapes, sampling_offsets, attention_logits)


def _remember(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    value, ctx.spatial_shapes, *others = inputs
    ctx.save_for_backward(value, *others)


def _differentiate(ctx, grad_output):  # type: ignore[no-untyped-def]
    value, *others = ctx.saved_tensors
    grad_value, grad_locations, grad_weights = torch.ops.mask2former.ms_deform_attn_backward(
        grad_output, value, ctx.spatial_shapes, *others, torch.are_deterministic_algorithms_enabled()
    )
    return grad_value, None, grad_locations, grad_weights


def _differentiate_fused(ctx, grad_output):  # type: ignore[no-untyped-def]
    value, *others = ctx.saved_tensors
    grad_value, grad_offsets, grad_logits = torch.ops.mask2former.ms_deform_attn_fused_backward(
        grad_output, value, ctx.spatial_shapes, *others, torch.are_deterministic_algorithms_enabled()
    )
    grad_references = None
    if ctx.needs_input_grad[2]:
        grad_references = _references_from_offsets(grad_offsets, ctx.spatial_shapes, others[0])
    return grad_value, None, grad_references, grad_offsets, grad_logits


def _references_from_offsets(grad_offsets: Tensor, spatial_shapes: Sequence[int], references: Tensor) -> Tensor:
    """Compute gradients of reference points, which are in units of a level's size, from those of offsets in pixels."""
    moved = grad_offsets.sum((2, 4), dtype=references.dtype)  # [B, Q, L, 2]
    heights, widths = spatial_shapes[::2], spatial_shapes[1::2]
    levels = [
        torch.stack([moved[:, :, level, 0] * width, moved[:, :, level, 1] * height], dim=-1)
        for level, (height, width) in enumerate(zip(heights, widths, strict=True))
    ]
    return torch.stack(levels, dim=2).sum_to_size(references.shape)


def _refuse(ctx, *grads):  # type: ignore[no-untyped-def]
    raise RuntimeError(
        "ms_deform_attn can be differentiated once; a second derivative (create_graph=True) is not implemented."
    )
