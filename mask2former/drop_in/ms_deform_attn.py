"""Multi-scale deformable attention under the names and with the arguments of the published operator package."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mask2former.ops import ms_deform_attn, ms_deform_attn_reference


class MSDeformAttn(nn.Module):
    """Deformable attention (Deformable DETR, arXiv 2010.04159, equation 3) for users' own code.

    Parameters have the published names. The pixel decoder of this package uses
    :class:`mask2former.modeling.layers.deformable_attention.MSDeformAttn` instead.

    Args:
        d_model: channels C.
        n_levels, n_heads, n_points: feature levels, attention heads, points of each head in each level.
    """

    def __init__(self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model must be divisible by n_heads, but got {d_model} and {n_heads}")
        self.d_model, self.n_levels, self.n_heads, self.n_points = d_model, n_levels, n_heads, n_points
        samples = n_heads * n_levels * n_points
        self.sampling_offsets = nn.Linear(d_model, samples * 2)
        self.attention_weights = nn.Linear(d_model, samples)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Initialise each head to look in a direction of its own, point p at a distance of p + 1 pixels."""
        for zeroed in (self.sampling_offsets.weight, self.attention_weights.weight, self.attention_weights.bias):
            nn.init.zeros_(zeroed)
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)  # maximum norm, as published
        distance = torch.arange(1, self.n_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * distance[:, None]
        with torch.no_grad():
            shape = (self.n_heads, self.n_levels, self.n_points, 2)
            self.sampling_offsets.bias.copy_(offsets.expand(shape).flatten())
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Tensor,
        input_level_start_index: Tensor | None = None,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: [B, Q, C].
            reference_points: [B, Q, L, 2] (x, y) in [0, 1]; or [B, Q, L, 4], boxes (x, y, width, height), to whose
                sizes offsets are then relative.
            input_flatten: [B, S, C], level after level, row by row.
            input_spatial_shapes: [L, 2] (H, W) of each level; copied to the host if it is on a GPU.
            input_level_start_index: not read, because it follows from the shapes.
            input_padding_mask: [B, S] bool, True in padding, whose values count as zero.

        Returns:
            [B, Q, C].

        Raises:
            ValueError: reference points that are neither points nor boxes.
        """
        shapes = _as_pairs(input_spatial_shapes)
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.n_heads, -1))
        offsets = self.sampling_offsets(query).unflatten(-1, (self.n_heads, self.n_levels, self.n_points, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, self.n_levels * self.n_points))
        weights = weights.softmax(-1).unflatten(-1, (self.n_levels, self.n_points))
        places = reference_points[:, :, None, :, None]  # [B, Q, 1, L, 1, 2 or 4]
        if reference_points.shape[-1] == 2:
            sizes = torch.tensor([(width, height) for height, width in shapes], device=query.device)
            locations = places + offsets / sizes[:, None]
        elif reference_points.shape[-1] == 4:
            locations = places[..., :2] + offsets / self.n_points * places[..., 2:] * 0.5
        else:
            raise ValueError(f"reference_points must end in 2 or 4, but got {tuple(reference_points.shape)}")
        return self.output_proj(ms_deform_attn(value, shapes, locations, weights))


class MSDeformAttnFunction:
    """Stand-in for the published autograd function; here the operator has derivatives of its own."""

    @staticmethod
    def apply(
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_level_start_index: Tensor | None,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: Any = None,
    ) -> Tensor:
        """Call :func:`mask2former.ops.ms_deform_attn`. Start indices and step are not read."""
        return ms_deform_attn(value, _as_pairs(value_spatial_shapes), sampling_locations, attention_weights)


def ms_deform_attn_core_pytorch(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Call :func:`mask2former.ops.ms_deform_attn_reference`."""
    return ms_deform_attn_reference(value, _as_pairs(value_spatial_shapes), sampling_locations, attention_weights)


def _as_pairs(shapes: Tensor) -> list[tuple[int, int]]:
    """Convert [L, 2] to (H, W) of each level."""
    return [(int(height), int(width)) for height, width in torch.as_tensor(shapes).tolist()]
