"""Attention with batch normalisation of its logits and of its result, without 1 / sqrt(d)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mask2former.modeling.layers.batch_norm import BatchNorm


class NormedAttention(nn.Module):
    """``activation(BN(softmax_j(BN(q . k_j)) v_j))``: logits have a scale and a shift for each head.

    Args:
        value_channels: of all heads together.
        num_heads: must divide key and value channels.
        activation: of the result.
    """

    def __init__(self, value_channels: int, num_heads: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.num_heads, self.activation = num_heads, activation
        self._batch_norm_similarity = BatchNorm(num_heads)
        self._batch_norm_retrieved_value = BatchNorm(value_channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend; query [B, C, L], key [B, C, S], value [B, C', S] -> [B, C', L]."""
        query, key, value = (part.unflatten(1, (self.num_heads, -1)) for part in (query, key, value))
        if self.training:
            logits = self._batch_norm_similarity(query.transpose(2, 3) @ key)
        else:  # the shift is one number for all keys, which softmax does not see
            scale = self._batch_norm_similarity.folded()[0].to(query.dtype)
            logits = (query * scale[:, None, None]).transpose(2, 3) @ key
        attended = value @ logits.softmax(-1).transpose(2, 3)
        return self.activation(self._batch_norm_retrieved_value(attended.flatten(1, 2)))
