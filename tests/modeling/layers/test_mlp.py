"""A stack of linear layers against its products."""

from __future__ import annotations

import torch
from oracles import randomise

from mask2former.modeling.layers.mlp import MLP


def test_no_relu_after_the_last_layer() -> None:
    stack = randomise(MLP(3, 5, 4, 3))
    assert [tuple(layer.weight.shape) for layer in stack.layers] == [(5, 3), (5, 5), (4, 5)]
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    first, second, third = stack.layers
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    expected = hidden @ third.weight.T + third.bias
    assert (expected < 0).any()
    torch.testing.assert_close(stack(x), expected)
