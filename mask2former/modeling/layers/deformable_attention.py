"""Multi-scale deformable self-attention (Deformable DETR, arXiv 2010.04159, equation 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mask2former.modeling.layers.residual import ResidualBlock
from mask2former.ops import ms_deform_attn_fused


class PixelGrid(NamedTuple):
    """The S pixels of all levels, level after level and row by row.

    Attributes:
        sizes: (H, W) of each of L levels.
        reference_points: [S, 2] (x, y) in [0, 1], float32.
    """

    sizes: list[tuple[int, int]]
    reference_points: Tensor

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], device: torch.device) -> PixelGrid:
        # Made on the device: copying numbers there from Python would wait for it.
        reference_points = []
        for height, width in sizes:
            y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
            x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
            reference_points.append(
                torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).flatten(0, 1)
            )
        return cls(list(sizes), torch.cat(reference_points))


class MSDeformAttn(nn.Module):
    """Attention of each query to a few points of every level, whose offsets and weights it predicts.

    Args:
        channels: C.
        num_levels: feature levels.
        num_heads: attention heads; must divide ``channels``.
        num_points: sampling points of each head in each level.
    """

    def __init__(self, channels: int, *, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} attention heads.")
        self.shape = (num_heads, num_levels, num_points)
        samples = math.prod(self.shape)
        self.sampling_offsets = nn.Linear(channels, samples * 2)
        self.attention_weights = nn.Linear(channels, samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Initialise each head to look in a direction of its own, point p at a distance of p + 1 pixels.

        Distances are measured in the maximum norm, as in the published operator package.
        """
        heads, levels, points = self.shape
        angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, points + 1, dtype=torch.float32)
        offsets = direction[:, None, None, :] * distance[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(heads, levels, points, 2).flatten())
        for zeroed in (self.sampling_offsets.weight, self.attention_weights.weight, self.attention_weights.bias):
            nn.init.zeros_(zeroed)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def project_values(self, x: Tensor) -> Tensor:
        """Project pixels [B, S, C], without position, to the values that are sampled: [B, S, heads, C / heads]."""
        return self.value_proj(x).unflatten(-1, (self.shape[0], -1))

    def forward(
        self, query: Tensor, values: Tensor, reference_points: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Attend.

        Args:
            query: [B, Q, C], with position.
            values: see :meth:`project_values`.
            reference_points: [1, Q, 2] float32, positions (x, y) of the queries in [0, 1].
            sizes: (H, W) of each level of the values.

        Returns:
            [B, Q, C].
        """
        heads, levels, points = self.shape
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, levels, points, 2))
        logits = self.attention_weights(query).unflatten(-1, (heads, levels, points))
        # Relative to its size, a reference point is the same in all levels.
        attended = ms_deform_attn_fused(values, sizes, reference_points[:, :, None], offsets, logits)
        return self.output_proj(attended)


class DeformableSelfAttention(ResidualBlock):
    """:class:`MSDeformAttn` with its residual connection and normalisation."""

    def __init__(
        self, channels: int, *, num_levels: int, num_heads: int, num_points: int, dropout: float = 0.0
    ) -> None:
        super().__init__(channels, dropout=dropout)
        self.attention = MSDeformAttn(channels, num_levels=num_levels, num_heads=num_heads, num_points=num_points)

    def forward(self, x: Tensor, position: Tensor, grid: PixelGrid) -> Tensor:
        """Attend; x [B, S, C], position [S, C]."""
        values = self.attention.project_values(x)
        places = grid.reference_points[None]
        return self.residual(x, lambda x: self.attention(x + position, values, places, grid.sizes))
