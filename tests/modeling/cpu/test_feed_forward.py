"""Feed-forward networks of some positions at a time against the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mask2former.modeling.cpu import chunking
from mask2former.modeling.cpu.feed_forward import ChunkedFeedForward, RecomputedFeedForward
from mask2former.modeling.layers.residual import FeedForward


def results(layer: FeedForward, x: Tensor, half: bool = False) -> list[Tensor]:
    """Output and all gradients."""
    layer.zero_grad()
    given = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = layer(given)
    output.square().sum().backward()
    gradients = [given.grad, *(p.grad for p in layer.parameters())]
    return [output.detach(), *(g.clone() for g in gradients if g is not None)]


@pytest.mark.parametrize("length", [1, 4, 5, 11])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_feed_forward_in_chunks_is_the_whole(length: int, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FeedForward(8, 16, dropout=dropout).double().train(dropout == 0)
    layer = ChunkedFeedForward(8, 16, dropout=dropout).double().train(dropout == 0)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(2, length, 8, dtype=torch.float64)
    whole = results(plain, x)
    monkeypatch.setitem(chunking.CHUNK_SIZE, "cpu", 4)
    split = results(layer, x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole[0])
    assert len(whole) == len(split) == 8
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("gradients", [False, True])
def test_dropout_still_drops(gradients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hidden activation is dropped with probability one half, also where there are several chunks."""
    monkeypatch.setitem(chunking.CHUNK_SIZE, "cpu", 4)
    layer = ChunkedFeedForward(4, 64, dropout=0.5, pre_norm=True)
    layer.dropout.p = 0.0  # that of the hidden activations is left
    torch.nn.init.constant_(layer.linear1.bias, 1.0)
    torch.nn.init.constant_(layer.linear2.weight, 1.0)
    with torch.set_grad_enabled(gradients):
        hidden_sums = layer(torch.ones(1, 40, 4))[..., 0]
    assert hidden_sums.std() > 1  # without dropout all were alike, but for rounding


def test_gradients_are_the_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(chunking.CHUNK_SIZE, "cpu", 3)
    shapes = [(2, 4, 5), (6, 5), (6,), (3, 6), (3,)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(RecomputedFeedForward.apply, inputs)


def test_feed_forward_in_chunks_follows_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = ChunkedFeedForward(8, 16), torch.randn(2, 11, 8)
    exact, whole = results(layer, x), results(layer, x, half=True)
    monkeypatch.setitem(chunking.CHUNK_SIZE, "cpu", 4)
    split = results(layer, x, half=True)
    assert [p.dtype for p in split] == [w.dtype for w in whole]
    for one, other, truth in zip(whole, split, exact, strict=True):
        assert (other - truth).abs().max() <= 2 * (one - truth).abs().max() + 0.01 * truth.abs().max()


def test_hidden_activations_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(tuple(t.shape)) or t, lambda t: t):
            layer(x)
        return found

    layer, x = ChunkedFeedForward(8, 16), torch.randn(2, 11, 8)
    assert (2, 11, 16) in kept()  # few positions: not worth another product
    monkeypatch.setitem(chunking.CHUNK_SIZE, "cpu", 4)
    assert {shape for shape in kept() if 16 in shape} == {(16, 8), (16,), (8, 16)}  # parameters
