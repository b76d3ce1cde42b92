"""The attention-to-mask layer."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.residual import FeedForward, ResidualBlock, SelfAttention


class MaskAttention(ResidualBlock):
    """Cross-attention of class queries to pixels, whose scores before the softmax are the masks' logits.

    The map of a query is the mean of its scores over the heads. Heads are blocks of channels, so that is one product
    over all of them: ``map = Q K^T / (heads * sqrt(C / heads))``.

    Args:
        channels: C.
        num_heads: attention heads; must divide ``channels``.
        dropout: rate on the attention weights and on the branch.
    """

    def __init__(self, channels: int, num_heads: int, *, dropout: float) -> None:
        super().__init__(channels, dropout=dropout)
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} attention heads.")
        self.num_heads, self.rate = num_heads, dropout
        self.scale = 1 / (num_heads * math.sqrt(channels / num_heads))
        self.query, self.key, self.value, self.proj = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            x: queries [B, K, C].
            memory: pixels [B, L, C].

        Returns:
            The new queries, and both factors of their maps: embeddings [B, K, C] and keys [B, L, C].
        """
        query, key = self.query(x), self.key(memory)

        def attend(x: Tensor) -> Tensor:
            q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (query, key, self.value(memory)))
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
            return self.proj(attended.transpose(1, 2).flatten(2))

        return self.residual(x, attend), query * self.scale, key


class AttentionToMaskLayer(nn.Module):
    """Self-attention among class queries, attention to pixels, then a feed-forward network (SegViT, section 3.2)."""

    def __init__(self, channels: int, *, num_heads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = SelfAttention(channels, num_heads, dropout=dropout)
        self.mask_attention = MaskAttention(channels, num_heads, dropout=dropout)
        self.feed_forward = FeedForward(channels, dim_feedforward, dropout=dropout)
        init_truncated(self)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Transform queries x [B, K, C]; see :meth:`MaskAttention.forward`."""
        x, embed, key = self.mask_attention(self.self_attention(x, x.new_zeros(1)), memory)
        return self.feed_forward(x), embed, key


def init_truncated(module: nn.Module) -> None:
    """Initialise linear layers by a normal distribution of deviation 0.02, truncated; packed projections stay."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
