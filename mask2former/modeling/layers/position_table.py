"""Learnt tables of positions, for grids of any size."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def resized_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a square position table [1, g g, C] to [1, h w, C], bicubic; as it is where the grid is the same."""
    side = math.isqrt(int(table.shape[1]))
    if all(isinstance(length, int) for length in grid) and grid == (side, side):
        return table  # where the grid is a symbol (torch.export), bicubic resizing to the same size gives the same
    as_image = table.transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(as_image, grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
