"""Layers of the plain transformer of DETR (arXiv 2005.12872, appendix A.3)."""

from __future__ import annotations

from torch import Tensor, nn

from mask2former.modeling.layers.residual import CrossAttention, FeedForward, SelfAttention


class EncoderLayer(nn.Module):
    """Self-attention among pixels, then a feed-forward network."""

    def __init__(self, channels: int, *, num_heads: int, dim_feedforward: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.self_attention = SelfAttention(channels, num_heads, pre_norm=pre_norm, dropout=dropout)
        self.feed_forward = FeedForward(channels, dim_feedforward, pre_norm=pre_norm, dropout=dropout)
        init_xavier(self)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Transform x [B, S, C]; position [S, C]."""
        return self.feed_forward(self.self_attention(x, position))


class DecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to pixels, then a feed-forward network."""

    def __init__(self, channels: int, *, num_heads: int, dim_feedforward: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.self_attention = SelfAttention(channels, num_heads, pre_norm=pre_norm, dropout=dropout)
        self.cross_attention = CrossAttention(channels, num_heads, pre_norm=pre_norm, dropout=dropout)
        self.feed_forward = FeedForward(channels, dim_feedforward, pre_norm=pre_norm, dropout=dropout)
        init_xavier(self)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Transform x [B, Q, C]; position [Q, C], key and value [B, S, C]."""
        x = self.self_attention(x, position)
        return self.feed_forward(self.cross_attention(x, position, key, value, None))


def init_xavier(module: nn.Module) -> None:
    """Initialise all weight matrices by Xavier's uniform distribution."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
