"""Transformer sub-layers against their formulas, with ``torch.nn.MultiheadAttention`` inside."""

from __future__ import annotations

import oracles
import pytest
import torch
from oracles import randomise

from mask2former.modeling.layers.residual import CrossAttention, FeedForward, ResidualBlock, SelfAttention


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_self_attention(pre_norm: bool) -> None:
    block = randomise(SelfAttention(8, 2, pre_norm=pre_norm))
    x, place = numbers(2, 5, 8), numbers(5, 8)
    found = block(x, place)
    for one, image in zip(found, x, strict=True):
        torch.testing.assert_close(one, oracles.self_attend(block, image, place))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_cross_attention(pre_norm: bool) -> None:
    block = randomise(CrossAttention(8, 2, pre_norm=pre_norm))
    x, place, key, value = numbers(2, 5, 8), numbers(5, 8), numbers(2, 7, 8), numbers(2, 7, 8)
    mask = torch.rand(2, 1, 5, 7) > 0.5
    mask[..., 3] = True
    found, unmasked = block(x, place, key, value, mask), block(x, place, key, value, None)
    for i in range(2):
        arguments = (block, x[i], place, key[i], value[i])
        torch.testing.assert_close(found[i], oracles.cross_attend(*arguments, ~mask[i, 0]))
        torch.testing.assert_close(unmasked[i], oracles.cross_attend(*arguments))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_feed_forward(pre_norm: bool) -> None:
    block = randomise(FeedForward(8, 16, pre_norm=pre_norm))
    x = numbers(2, 5, 8)
    before = x.clone()
    torch.testing.assert_close(block(x), oracles.feed_forward(block, x))
    assert torch.equal(x, before)


def test_dropout_is_on_the_branch_alone() -> None:
    """Drop half of the branch: half of the sums are 1, half 1 + 2."""
    block = ResidualBlock(4, pre_norm=True, dropout=0.5)
    found = block.residual(torch.ones(500, 4), torch.ones_like)
    assert set(found.flatten().tolist()) == {1.0, 3.0}
    assert 0.4 < (found == 3).double().mean() < 0.6
