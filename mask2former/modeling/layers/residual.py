"""Transformer sub-layers with their residual connection and normalisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mask2former.modeling.layers.attention import MultiHeadAttention
from mask2former.modeling.layers.chunking import chunked, needs_chunking
from mask2former.modeling.layers.feed_forward import RecomputedFeedForward


class ResidualBlock(nn.Module):
    """``norm(x + f(x))`` (post-norm), or ``x + f(norm(x))`` with ``pre_norm``."""

    def __init__(self, channels: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def residual(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(function(self.norm(x)))
        branch = self.dropout(function(x))
        if torch.is_grad_enabled() or branch.dtype != x.dtype:
            return self.norm(x + branch)
        return self.norm(branch.add_(x))  # one less of the largest tensors


class SelfAttention(ResidualBlock):
    """Queries attend to each other; their position embedding is added to queries and keys, not to values."""

    def __init__(self, channels: int, num_heads: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels, pre_norm=pre_norm, dropout=dropout)
        self.attention = MultiHeadAttention(channels, num_heads, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """x, position: [B, Q, C] (position may broadcast over B)."""

        def attend(x: Tensor) -> Tensor:
            located = x + position
            return self.attention(located, located, x)

        return self.residual(x, attend)


class CrossAttention(ResidualBlock):
    """Queries attend to a memory of pixels."""

    def __init__(self, channels: int, num_heads: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels, pre_norm=pre_norm, dropout=dropout)
        self.attention = MultiHeadAttention(channels, num_heads, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
        """x [B, Q, C]; key, value [B, S, C]; attn_mask bool [B, 1, Q, S] or None: see :class:`MultiHeadAttention`."""
        return self.residual(x, lambda x: self.attention(x + position, key, value, attn_mask))


class FeedForward(ResidualBlock):
    """Two linear layers with ReLU between them, at each position by itself."""

    def __init__(self, channels: int, hidden_channels: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels, pre_norm=pre_norm, dropout=dropout)
        self.linear1 = nn.Linear(channels, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, channels)
        self.hidden_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, S, C]."""
        fixed = not (self.training and self.hidden_dropout.p)
        if torch.is_grad_enabled() and fixed and needs_chunking(x):
            return self.residual(x, self._recomputed)
        return chunked(lambda piece: self.residual(piece, self._transform), x)

    def _recomputed(self, x: Tensor) -> Tensor:
        first, second = self.linear1, self.linear2
        return RecomputedFeedForward.apply(x, first.weight, first.bias, second.weight, second.bias)

    def _transform(self, x: Tensor) -> Tensor:
        return self.linear2(self.hidden_dropout(self.linear1(x).relu_()))
