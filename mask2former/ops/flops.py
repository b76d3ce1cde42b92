"""FLOPs of the operators: one formula for PyTorch's counter, registered on import, and for ``analysis/flop_counts.py``.

The package does not import this module, because PyTorch's counter imports a compiler (a quarter of a second). Import it
before ``torch.utils.flop_counter.FlopCounterMode`` counts a model.

Here one FLOP is one multiplication with its addition, as papers on detection count; PyTorch's counter takes twice that.
For each channel of each sample, a forward pass multiplies four neighbours by their shares and the sum by its attention
weight. A backward pass computes the dot products of the gradient with the four neighbours, which give the derivatives
of weight and location, weights the gradient, and adds its shares to the four neighbours' gradients. The softmax of the
fused operator is an exponential, an addition and a division for each sample; the backward pass recomputes it, with a
dot product and a product for its derivative. Arithmetic of locations, which is little beside the channels, is free, as
element-wise functions are everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from mask2former.ops.library import is_loaded

SAMPLE, SAMPLE_BACKWARD = 4 + 1, 4 + 1 + 4  # per channel
SOFTMAX, SOFTMAX_BACKWARD = 3, 3 + 2  # per element
Shape = Sequence[int]


def ms_deform_attn_flops(value: Shape, spatial_shapes: Any, locations: Shape, weights: Shape) -> int:
    """Count a forward pass of :func:`mask2former.ops.ms_deform_attn`, from the shapes of the operator's arguments."""
    return SAMPLE * math.prod(weights) * value[-1]


def ms_deform_attn_fused_flops(
    value: Shape, spatial_shapes: Any, references: Shape, offsets: Shape, logits: Shape
) -> int:
    """Count a forward pass of :func:`mask2former.ops.ms_deform_attn_fused`, from the shapes of its arguments."""
    return (SAMPLE * value[-1] + SOFTMAX) * math.prod(logits)


def _backward_flops(grad: Shape, value: Shape, spatial_shapes: Any, locations: Shape, weights: Shape, *_: Any) -> int:
    return SAMPLE_BACKWARD * math.prod(weights) * value[-1]


def _fused_backward_flops(
    grad: Shape, value: Shape, spatial_shapes: Any, references: Shape, offsets: Shape, logits: Shape, *_: Any
) -> int:
    return (SAMPLE_BACKWARD * value[-1] + SOFTMAX_BACKWARD) * math.prod(logits)


def _twice(formula: Callable[..., int]) -> Callable[..., int]:
    def multiplications_and_additions(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
        return 2 * formula(*shapes)

    return multiplications_and_additions


if is_loaded("cpu"):  # the CPU library holds the schema
    for name, formula in (
        ("ms_deform_attn", ms_deform_attn_flops),
        ("ms_deform_attn_fused", ms_deform_attn_fused_flops),
        ("ms_deform_attn_backward", _backward_flops),
        ("ms_deform_attn_fused_backward", _fused_backward_flops),
    ):
        register_flop_formula(getattr(torch.ops.mask2former, name))(_twice(formula))
