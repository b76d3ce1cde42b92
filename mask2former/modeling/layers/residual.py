"""Transformer sub-layers with their residual connection and normalisation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mask2former.modeling.layers.attention import MultiHeadAttention


class ResidualBlock(nn.Module):
    """Base of sub-layers: ``norm(x + f(x))`` (post-norm), or ``x + f(norm(x))`` with ``pre_norm``."""

    def __init__(self, channels: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def residual(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(function(self.norm(x)))
        return self.norm(x + self.dropout(function(x)))


class SelfAttention(ResidualBlock):
    """Self-attention; the position embedding is added to queries and keys, not to values."""

    def __init__(self, channels: int, num_heads: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels, pre_norm=pre_norm, dropout=dropout)
        self.attention = MultiHeadAttention(channels, num_heads, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Attend; x, position [B, Q, C] (position may broadcast over B)."""

        def attend(x: Tensor) -> Tensor:
            located = x + position
            return self.attention(located, located, x)

        return self.residual(x, attend)


class CrossAttention(ResidualBlock):
    """Attention of queries to a memory of pixels."""

    def __init__(self, channels: int, num_heads: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels, pre_norm=pre_norm, dropout=dropout)
        self.attention = MultiHeadAttention(channels, num_heads, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
        """Attend; x [B, Q, C], key and value [B, S, C], attn_mask as in :class:`MultiHeadAttention`."""
        return self.residual(x, lambda x: self.attention(x + position, key, value, attn_mask))


class FeedForward(ResidualBlock):
    """Two linear layers with ReLU between them, applied to each position separately."""

    def __init__(self, channels: int, hidden_channels: int, *, pre_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(channels, pre_norm=pre_norm, dropout=dropout)
        self.linear1 = nn.Linear(channels, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, channels)
        self.hidden_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, S, C]."""
        return self.residual(x, lambda x: self.linear2(self.hidden_dropout(self.linear1(x).relu_())))
