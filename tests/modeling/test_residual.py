"""Transformer sub-layers."""

from __future__ import annotations

import pytest
import torch

from mask2former.modeling.layers import residual
from mask2former.modeling.layers.residual import FeedForward


@pytest.mark.parametrize("length", [1, 4, 5, 11])
def test_feed_forward_in_pieces_is_the_whole(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = FeedForward(8, 16).double()
    x = torch.randn(2, length, 8, dtype=torch.float64)
    results = []
    for piece in (1000, 4):
        monkeypatch.setitem(residual._PIECE, "cpu", piece)
        layer.zero_grad()
        given = x.clone().requires_grad_()
        output = layer(given)
        output.square().sum().backward()
        results.append([output.detach(), given.grad, *(p.grad.clone() for p in layer.parameters())])
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(pieces, whole)
