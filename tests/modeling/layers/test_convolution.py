"""The convolutions of a pyramid: size, bias, normalisation, ReLU."""

from __future__ import annotations

import pytest
import torch
from oracles import convolve, randomise
from torch import nn

from mask2former.modeling.layers.convolution import pyramid_conv


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("norm", ["", "GN"])
@pytest.mark.parametrize("relu", [False, True])
def test_convolution_norm_relu(kernel_size: int, norm: str, relu: bool) -> None:
    conv = pyramid_conv(4, 32, norm, kernel_size=kernel_size, relu=relu)
    assert (conv.bias is None) == (norm == "GN")  # normalisation has one
    assert isinstance(conv.norm, nn.GroupNorm) == (norm == "GN")
    randomise(conv)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    found = conv(x)
    assert found.shape == (2, 32, 5, 6)
    assert (found < 0).any() != relu
    torch.testing.assert_close(found, convolve(conv, x))
