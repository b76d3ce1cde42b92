"""Self-attention within shifted windows (Swin Transformer, arXiv 2103.14030, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BLOCKED = -100.0  # added to the logits; not minus infinity, because published weights were trained with this


class WindowGrid:
    """Division of a feature map of one size into square windows, for all blocks of a stage.

    The map is padded with zeros at the right and at the bottom. A cyclic shift (section 3.2, "Efficient batch
    computation") moves windows across the previous borders; :attr:`shift_mask` keeps apart pixels that it brings
    together from opposite sides of the map.

    Args:
        size: (H, W) of the map, in patches.
        window: side M of a window, in patches.
        device: device of the mask.
    """

    def __init__(self, size: tuple[int, int], window: int, device: torch.device) -> None:
        self.size = size
        self.window = window
        self.device = device
        # Rounded up, but not by -(-a // b), because ONNX rounds quotients of negative numbers the other way.
        self.counts = ((size[0] + window - 1) // window, (size[1] + window - 1) // window)
        self._shift_mask: Tensor | None = None

    @property
    def shift(self) -> int:
        """Shift of the windows in every second block, in patches."""
        return self.window // 2

    def cut(self, x: Tensor, *, shifted: bool) -> Tensor:
        """Cut [B, H, W, C] into windows [B, windows, M * M, C]."""
        (height, width), (rows, columns) = self.size, self.counts
        x = F.pad(x, (0, 0, 0, columns * self.window - width, 0, rows * self.window - height))
        if shifted:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        x = x.unflatten(2, (columns, self.window)).unflatten(1, (rows, self.window))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def join(self, windows: Tensor, *, shifted: bool) -> Tensor:
        """Join windows; the inverse of :meth:`cut`."""
        x = windows.unflatten(2, (self.window, self.window)).unflatten(1, self.counts)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if shifted:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, : self.size[0], : self.size[1]]

    @property
    def shift_mask(self) -> Tensor:
        """Float32 [windows, 1, M * M, M * M], added to the attention logits of shifted windows."""
        if self._shift_mask is None:  # made once for all blocks; `torch.compile` stops at the lock of cached_property
            self._shift_mask = self._mask_of_shift()
        return self._shift_mask

    def _mask_of_shift(self) -> Tensor:
        rows, columns = (self._regions(count) for count in self.counts)
        regions = 3 * rows[:, None] + columns
        # Pixels of a window may attend to each other if they come from the same side of the seam.
        regions = regions.unflatten(1, (self.counts[1], self.window)).unflatten(0, (self.counts[0], self.window))
        regions = regions.transpose(1, 2).flatten(2, 3).flatten(0, 1)
        apart = regions[:, None, :, None] != regions[:, None, None, :]
        return torch.zeros(apart.shape, device=self.device).masked_fill_(apart, _BLOCKED)

    def _regions(self, count: int) -> Tensor:
        """Number rows (columns) after the shift: 0 in whole windows, 1 and 2 on either side of the last one's seam."""
        length = count * self.window
        index = torch.arange(length, device=self.device)
        return (index >= length - self.window).int() + (index >= length - self.shift).int()


class WindowAttention(nn.Module):
    """Multi-head self-attention in each window, with relative position bias (equation 4).

    Args:
        channels: C.
        window: side M of a window.
        num_heads: must divide ``channels``.
        qkv_bias: give queries, keys and values a bias.
        qk_scale: factor on the attention logits; None: 1 / sqrt(C / heads).
        attention_dropout, dropout: rates on the attention and on the output.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        channels: int,
        *,
        window: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} attention heads.")
        self.num_heads = num_heads
        self.qk_scale = qk_scale
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: [B, windows, M * M, C].
            mask: [windows, 1, M * M, M * M], added to the logits; None: nothing.
        """
        batch, windows = x.shape[:2]
        qkv = self.qkv(x.flatten(0, 1)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B * windows, heads, M * M, C / heads]
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask).expand(batch, -1, -1, -1, -1).flatten(0, 1)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias.to(query.dtype),
            dropout_p=self.attention_dropout if self.training else 0.0,
            scale=self.qk_scale,
        )
        return self.dropout(self.proj(attended.transpose(1, 2).flatten(2))).unflatten(0, (batch, windows))


def relative_position_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of a window's pixels: int64 [M * M, M * M].

    The table lists the offsets (dy, dx) of query from key, each in [1 - M, M - 1], row by row.
    """
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    dy, dx = (c.flatten()[:, None] - c.flatten() + window - 1 for c in (y, x))
    return dy * (2 * window - 1) + dx
