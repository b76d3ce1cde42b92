"""Multi-head attention against ``torch.nn.MultiheadAttention``, which has the same parameters."""

from __future__ import annotations

import pytest
import torch
from oracles import randomise
from torch import nn

from mask2former.modeling.layers.attention import MultiHeadAttention


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_equals_torch(heads: int, masked: bool) -> None:
    ours = randomise(MultiHeadAttention(8, heads))
    theirs = nn.MultiheadAttention(8, heads, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = (torch.randn(2, n, 8, dtype=torch.float64, requires_grad=True) for n in (5, 7, 7))
    mask = torch.rand(2, 1, 5, 7) > 0.4
    mask[..., 0] = True
    blocked = ~mask.expand(-1, heads, -1, -1).flatten(0, 1) if masked else None
    expected, _ = theirs(query, key, value, attn_mask=blocked)
    found = ours(query, key, value, mask if masked else None)
    torch.testing.assert_close(found, expected)
    leaves = (query, key, value)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), leaves), torch.autograd.grad(expected.square().sum(), leaves),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, other)


def test_dropout_is_for_training() -> None:
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(1, 6, 8)
    assert not torch.equal(layer(x, x, x), layer(x, x, x))
    layer.eval()
    assert torch.equal(layer(x, x, x), layer(x, x, x))


def test_heads_have_to_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="8 channels cannot be divided among 3"):
        MultiHeadAttention(8, 3)
