"""Position-sensitive axial attention (Axial-DeepLab, arXiv 2003.07853; MaX-DeepLab, arXiv 2012.00759)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mask2former.modeling.layers.batch_norm import BatchNorm, truncated_normal_

Axis = Literal["height", "width"]
_FARTHEST = 254  # positions; those farther apart share the last row


class RelativePositions(nn.Module):
    """A learnt vector for each distance of a key from a query, of any number of positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._embeddings = nn.Embedding(2 * _FARTHEST + 1, channels)
        truncated_normal_(self._embeddings.weight, 1.0)

    def forward(self, length: int) -> Tensor:
        """Return the vectors [L, L, C] of (query, key)."""
        places = torch.arange(length, device=self._embeddings.weight.device)
        rows = (places - places[:, None]).clamp(-_FARTHEST, _FARTHEST) + _FARTHEST
        return self._embeddings(rows)


class QKVTransform(nn.Module):
    """The linear map of a line of pixels to queries, keys and values; a module of its own for the published names."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, out_channels, 1, bias=False)
        truncated_normal_(self.conv.weight, channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, L]."""
        return self.conv(x)


class AxialAttention(nn.Module):
    """Attention of each pixel to those of its column or row, where positions take part in logits and values.

    ``s_ij = BN(q_i . k_j) + BN(q_i . r^q_ij) + BN(k_j . r^k_ij)``, ``y_i = BN(sum_j a_ij v_j) + BN(sum_j a_ij r^v_ij)``
    with ``a = softmax_j(s)``; the vectors r depend on j - i and are shared by all heads. At inference the norms of the
    logits are factors of queries and keys, and no norm is computed on [L, L]. Parameters have kMaX-DeepLab's names.

    Args:
        in_channels: C.
        key_channels, value_channels: of all heads together.
        axis: "height": within columns; "width": within rows.
        num_heads: must divide key and value channels.
    """

    def __init__(
        self, in_channels: int, *, key_channels: int, value_channels: int, axis: Axis, num_heads: int = 8
    ) -> None:
        super().__init__()
        if key_channels % num_heads or value_channels % num_heads:
            raise ValueError(
                f"Axial attention cannot divide {key_channels} key and {value_channels} value channels among "
                f"{num_heads} heads; choose multiples of {num_heads}."
            )
        self.axis, self.num_heads = axis, num_heads
        self.key_channels, self.value_channels = key_channels, value_channels
        channels = 2 * key_channels + value_channels
        self.qkv_transform = QKVTransform(in_channels, channels)
        self._query_rpe = RelativePositions(key_channels // num_heads)
        self._key_rpe = RelativePositions(key_channels // num_heads)
        self._value_rpe = RelativePositions(value_channels // num_heads)
        self._batch_norm_qkv = BatchNorm(channels)
        self._batch_norm_similarity = BatchNorm(3 * num_heads)  # content, query's position, key's position
        self._batch_norm_retrieved_output = BatchNorm(2 * value_channels)  # content, position

    def forward(self, x: Tensor) -> Tensor:
        """Attend; x [B, C, H, W] -> [B, value channels, H, W]."""
        lines = x.permute(0, 3, 1, 2) if self.axis == "height" else x.permute(0, 2, 1, 3)
        attended = self._attend(lines.flatten(0, 1)).unflatten(0, lines.shape[:2])
        return attended.permute(0, 2, 3, 1) if self.axis == "height" else attended.permute(0, 2, 1, 3)

    def _attend(self, x: Tensor) -> Tensor:
        """Attend within lines x [B', C, L]."""
        heads, length = self.num_heads, x.shape[-1]
        qkv = self._batch_norm_qkv(self.qkv_transform(x))
        parts = qkv.split((self.key_channels, self.key_channels, self.value_channels), 1)
        query, key, value = (part.unflatten(1, (heads, -1)) for part in parts)  # [B', heads, D, L]
        attention = self._similarity(query, key).softmax(-1)
        content = torch.einsum("bnij,bndj->bndi", attention, value).flatten(1, 2)
        positions = self._value_rpe(length).to(attention.dtype)
        located = torch.einsum("bnij,ijd->bndi", attention, positions).flatten(1, 2)
        norm = self._batch_norm_retrieved_output
        if self.training:
            return norm(torch.cat([content, located], 1)).unflatten(1, (2, -1)).sum(1)
        scale, shift = (each.to(content.dtype).view(2, -1, 1) for each in norm.folded())
        return content * scale[0] + located * scale[1] + shift.sum(0)

    def _similarity(self, query: Tensor, key: Tensor) -> Tensor:
        """Return logits [B', heads, L, L]; at inference less a constant of each head, which softmax does not see."""
        length = query.shape[-1]
        of_query, of_key = (table(length).to(query.dtype) for table in (self._query_rpe, self._key_rpe))
        norm = self._batch_norm_similarity
        if self.training:
            similarities = (
                torch.einsum("bndi,bndj->bnij", query, key),
                torch.einsum("bndi,ijd->bnij", query, of_query),
                torch.einsum("bndj,ijd->bnij", key, of_key),
            )
            return norm(torch.cat(similarities, 1)).unflatten(1, (3, -1)).sum(1)
        content, queries, keys = norm.folded()[0].to(query.dtype).view(3, -1, 1, 1)
        logits = torch.einsum("bndi,bndj->bnij", query * content, key)
        logits = logits + torch.einsum("bndi,ijd->bnij", query * queries, of_query)
        return logits + torch.einsum("bndj,ijd->bnij", key * keys, of_key)


class AxialAttention2d(nn.Module):
    """Attention within columns, then within rows.

    Args:
        in_channels, key_channels, value_channels, num_heads: see :class:`AxialAttention`.
        stride: keep every n-th row after the first attention, and every n-th column after the second.
    """

    def __init__(
        self, in_channels: int, *, key_channels: int, value_channels: int, num_heads: int = 8, stride: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        self._height_axis = AxialAttention(
            in_channels, key_channels=key_channels, value_channels=value_channels, axis="height", num_heads=num_heads
        )
        self._width_axis = AxialAttention(
            value_channels, key_channels=key_channels, value_channels=value_channels, axis="width", num_heads=num_heads
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend; x [B, C, H, W] -> [B, value channels, ceil(H / stride), ceil(W / stride)]."""
        columns = self._height_axis(x)[:, :, :: self.stride]
        return self._width_axis(columns)[..., :: self.stride]
