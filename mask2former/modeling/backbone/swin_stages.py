"""Parts of a Swin Transformer (arXiv 2103.14030): embedding, blocks, merging, stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.drop_path import DropPath
from mask2former.modeling.layers.window_attention import WindowAttention, WindowGrid


class FeedForward(nn.Module):
    """Two linear layers with GELU between them: [..., C] -> [..., C]."""

    def __init__(self, channels: int, hidden_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class SwinBlock(nn.Module):
    """Window attention, then a feed-forward network, each pre-normalised and residual (section 3.2, equation 3).

    Args:
        channels: C.
        shifted: shift windows by half their side.
        mlp_ratio: hidden channels of the feed-forward network relative to C.
        drop_path: probability that an image skips a branch in training.
        dropout: rate on the output of the attention and in the feed-forward network.
        **attention: see :class:`WindowAttention`.
    """

    def __init__(
        self, channels: int, *, shifted: bool, mlp_ratio: float, drop_path: float, dropout: float, **attention: Any
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, dropout=dropout, **attention)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels, int(channels * mlp_ratio), dropout=dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid: WindowGrid) -> Tensor:
        """Transform x [B, H, W, C]."""
        windows = self.attn(grid.cut(self.norm1(x), shifted=self.shifted), grid.shift_mask if self.shifted else None)
        x = x + self.drop_path(grid.join(windows, shifted=self.shifted))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Merging of 2x2 patches into one of twice the channels (section 3.1): [B, H, W, C] -> [B, H/2, W/2, 2C].

    Odd heights and widths are padded with zeros.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # Published weights expect the four neighbours column by column.
        neighbours = torch.cat([x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)], dim=-1)
        return self.reduction(self.norm(neighbours))


class SwinStage(nn.Module):
    """Blocks of one resolution, every second one shifted; ``downsample`` leads to the next stage, if any."""

    def __init__(
        self,
        channels: int,
        *,
        window: int,
        drop_paths: Sequence[float],
        downsample: bool,
        **block: Any,
    ) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(channels, window=window, shifted=index % 2 == 1, drop_path=rate, **block)
            for index, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(channels) if downsample else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x [B, H, W, C] after the blocks, and the input of the next stage."""
        grid = WindowGrid((x.shape[1], x.shape[2]), self.window, x.device)
        for block in self.blocks:
            x = block(x, grid)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, projected to ``channels``: [B, 3, H, W] -> [B, H / patch, W / patch, C].

    Images are padded with zeros at the right and at the bottom to whole patches.
    """

    def __init__(self, in_channels: int, channels: int, *, patch: int, norm: bool) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_channels, channels, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[-1] % self.patch, 0, -x.shape[-2] % self.patch))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))
