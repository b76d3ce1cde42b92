"""Bilinear resizing along one axis, as a matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def resizing_rows(
    source: int, target: int, first: int, last: int, align_corners: bool = False
) -> tuple[Tensor, int, int]:
    """Compute the matrix that resizes ``source`` pixels to ``target``, or some of its rows.

    Args:
        source, target: lengths in pixels.
        first, last: the part [first, last) of the ``target`` pixels.
        align_corners: the centres of the first and of the last pixels are kept, not the outer edges.

    Returns:
        Weights, float64 [last - first, end - begin], then begin and end: they apply to source pixels [begin, end).
    """
    place = torch.arange(first, last, dtype=torch.float64)
    if align_corners:
        position = place * ((source - 1) / max(target - 1, 1))
    else:
        position = ((place + 0.5) * (source / target) - 0.5).clamp(min=0)
    low = position.long().clamp(max=source - 1)  # rounds down; the last place may be reached by rounding up
    high = (low + 1).clamp(max=source - 1)
    begin, end = int(low[0]), int(high[-1]) + 1
    share = (position - low)[:, None]
    weights = torch.zeros(last - first, end - begin, dtype=torch.float64)
    weights.scatter_add_(1, low[:, None] - begin, 1 - share)
    weights.scatter_add_(1, high[:, None] - begin, share)
    return weights, begin, end
