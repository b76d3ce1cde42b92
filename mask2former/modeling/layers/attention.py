"""Multi-head attention over PyTorch's fused kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiHeadAttention(nn.Module):
    """Multi-head attention (arXiv 1706.03762, section 3.2.2) with one packed projection of query, key and value.

    ``torch.nn.MultiheadAttention`` has the same parameters but needs its mask repeated for every head; here one
    [B, 1, Q, S] mask is broadcast.

    Args:
        channels: C of queries, keys, values and output.
        num_heads: attention heads; must divide ``channels``.
        dropout: rate on the attention weights.
    """

    def __init__(self, channels: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} attention heads.")
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: [B, Q, C]; key, value: [B, S, C].
            attn_mask: bool, broadcastable to [B, heads, Q, S]; False where a query must not look.
                Every query needs at least one True.

        Returns:
            [B, Q, C].
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            self._split_heads(F.linear(x, weight, bias))
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=attn_mask, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """Reshape [B, S, C] to [B, heads, S, C / heads]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
