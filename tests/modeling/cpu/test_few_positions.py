"""Convolutions as one product where positions are few: they equal PyTorch's."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mask2former.modeling.cpu.few_positions import MOST_POSITIONS, has_few_positions, product_with_windows
from mask2former.modeling.cpu.fused_block import convolve, convolve_and_add, convolve_and_add_


@settings(deadline=None)
@given(
    batch=st.integers(0, 3),
    channels=st.integers(1, 5),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    channels_last=st.booleans(),
)
def test_the_product_equals_a_convolution(batch, channels, kernel, stride, padding, dilation, size, channels_last):
    generator = torch.Generator().manual_seed(0)
    conv = Conv2d(channels, 4, kernel, stride=stride, padding=padding, dilation=dilation, bias=False).double()
    x = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)

    with torch.no_grad():
        found = product_with_windows(conv, x)
        expected = F.conv2d(x, conv.weight, None, stride, padding, dilation)

    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("side", [4, 16])  # 16 and 256 positions: by the product and by oneDNN
def test_normalisation_relu_and_sum_are_the_same_either_way(side):
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(8)
    for buffer in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        buffer.uniform_(0.5, 2)
    conv = Conv2d(8, 8, 3, padding=1, bias=False, norm=norm)
    x, other = (torch.randn(1, 8, side, side).contiguous(memory_format=torch.channels_last) for _ in range(2))
    assert has_few_positions(conv, x) == (side * side <= MOST_POSITIONS)

    with torch.no_grad():
        plain = conv(x)
        torch.testing.assert_close(convolve(conv, x, "none"), plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(convolve(conv, x, "relu"), plain.relu(), rtol=1e-4, atol=1e-5)
        summed = (plain + other).relu()
        torch.testing.assert_close(convolve_and_add(conv, x, other), summed, rtol=1e-4, atol=1e-5)
        into = other.clone(memory_format=torch.preserve_format)
        assert convolve_and_add_(conv, x, into) is into
        torch.testing.assert_close(into, summed, rtol=1e-4, atol=1e-5)


def test_positions_of_the_whole_batch_count_and_groups_and_half_precision_stay_with_onednn():
    conv = Conv2d(8, 8, 3, stride=2, padding=1, bias=False)

    assert has_few_positions(conv, torch.zeros(2, 8, 16, 16))
    assert not has_few_positions(conv, torch.zeros(3, 8, 16, 16))
    assert not has_few_positions(conv, torch.zeros(1, 8, 4, 4, dtype=torch.bfloat16))
    assert not has_few_positions(Conv2d(8, 8, 3).bfloat16(), torch.zeros(1, 8, 4, 4))
    assert not has_few_positions(Conv2d(8, 8, 3, groups=2), torch.zeros(1, 8, 4, 4))
