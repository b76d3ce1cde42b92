"""Reading masks at points. Points are (x, y) in [0, 1] of the picture; pixel i's centre lies at (i + 0.5) / size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Sample [R, C, H, W] bilinearly at points [R, P, 2]; zero outside; returns [R, C, P]."""
    grid = 2.0 * points.unsqueeze(1) - 1.0
    return F.grid_sample(maps, grid.to(maps.dtype), align_corners=False).squeeze(2)


def sample_masks(masks: Tensor, points: Tensor, rows: Tensor | None = None) -> Tensor:
    """Sample bool masks bilinearly: the same as :func:`sample_points` of ``masks.float()``, which is never made.

    Args:
        masks: [N, H, W] bool.
        points: [R, P, 2], or [P, 2] when all rows share them.
        rows: [R] int64, the mask that each row of the result samples, without copying it; None: all masks in turn.

    Returns:
        [R, P] float32 in [0, 1].
    """
    height, width = masks.shape[-2:]
    if rows is None:
        rows = torch.arange(len(masks), device=masks.device)
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    flat = masks.flatten()
    start = rows[:, None] * (height * width)
    sampled = torch.zeros(len(rows), points.shape[-2], device=masks.device)
    for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            # Whole numbers before the product: float32 cannot count the pixels of very large pictures.
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            sampled += flat[start + index] * (weight_x * weight_y * inside)
    return sampled


@torch.no_grad()
def uncertain_points(
    logits: Tensor, num_points: int, *, oversample_ratio: float, importance_sample_ratio: float
) -> Tensor:
    """Choose points where masks are undecided (PointRend, arXiv 1912.08193, section 3.1; Mask2Former, section 3.3).

    Of ``num_points * oversample_ratio`` random candidates, those whose logit is nearest to zero make up
    ``importance_sample_ratio`` of the points; the rest are new random points.

    Args:
        logits: [R, H, W].

    Returns:
        [R, num_points, 2].
    """
    rows = len(logits)
    num_uncertain = int(importance_sample_ratio * num_points)
    candidates = torch.rand(rows, int(num_points * oversample_ratio), 2, device=logits.device)
    certainty = sample_points(logits[:, None], candidates).squeeze(1).abs()
    chosen = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    random = torch.rand(rows, num_points - num_uncertain, 2, device=logits.device)
    return torch.cat([uncertain, random], dim=1)
