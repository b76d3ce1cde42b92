"""FLOPs of the operators, by PyTorch's counter, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from operators import needs_library
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import mask2former.ops.flops  # noqa: F401  (tells the counter)
from mask2former.ops import ms_deform_attn, ms_deform_attn_fused

SAMPLES = 2 * 9 * 3 * 2 * 4  # 2 images, 9 queries, 3 heads, 2 levels of 4 points
CHANNELS = 8


def classic(device: str) -> tuple[Tensor, ...]:
    shapes = ((2, 16, 3, CHANNELS), (2, 9, 3, 2, 4, 2), (2, 9, 3, 2, 4))
    return tuple(torch.rand(shape, device=device, requires_grad=True) for shape in shapes)


def run_classic(device: str) -> tuple[Tensor, list[int]]:
    value, locations, weights = classic(device)
    # 4 neighbours and the weight; backward as many dot products, the weighted gradient, and its 4 shares
    return ms_deform_attn(value, [(4, 3), (2, 2)], locations, weights), [5 * CHANNELS, 9 * CHANNELS]


def run_fused(device: str) -> tuple[Tensor, list[int]]:
    value, offsets, logits = classic(device)
    centres = torch.rand(1, 9, 1, 2, device=device)
    # the softmax too: an exponential, an addition and a division; backward it and two more
    return ms_deform_attn_fused(value, [(4, 3), (2, 2)], centres, offsets, logits), [5 * CHANNELS + 3, 9 * CHANNELS + 5]


@needs_library
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("run", [run_classic, run_fused])
def test_multiplications_and_additions(run, device: str) -> None:
    with FlopCounterMode(display=False) as forward:
        output, (once, back) = run(device)
    assert forward.get_total_flops() == 2 * SAMPLES * once
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    assert backward.get_total_flops() == 2 * SAMPLES * back
