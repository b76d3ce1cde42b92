"""Sampling of masks at points, (x, y) in [0, 1] of the image. The centre of pixel i lies at (i + 0.5) / size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_MASKS = 8  # masks converted to float at a time: enough for several threads


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Sample maps [R, C, H, W] bilinearly at points [R, P, 2], with zeros outside; return [R, C, P]."""
    grid = (2.0 * points.unsqueeze(1)).sub_(1.0)
    return F.grid_sample(maps, grid.to(maps.dtype), align_corners=False).squeeze(2)


def sample_masks(masks: Tensor, points: Tensor, rows: Tensor | None = None) -> Tensor:
    """Sample bool masks bilinearly, like :func:`sample_points` of ``masks.float()`` but without that copy.

    Args:
        masks: [N, H, W] bool.
        points: [R, P, 2], or [P, 2] when all rows share them.
        rows: [R] int64, the index of the mask that each row of the result samples; None: each mask once, in order.

    Returns:
        [R, P] float32 in [0, 1].
    """
    if rows is None:
        rows = torch.arange(len(masks), device=masks.device)
    points = points.expand(len(rows), -1, -1)
    if masks.device.type == "cpu":
        return _sample_in_turn(masks, points, rows)
    return _sample_together(masks, points, rows)


def _sample_in_turn(masks: Tensor, points: Tensor, rows: Tensor) -> Tensor:
    """Sample masks a few at a time, after converting them to float. On a GPU this would wait for the device."""
    sampled = points.new_empty(points.shape[:2])
    indices, counts = rows.unique_consecutive(return_counts=True)
    if len(indices) and (counts == counts[0]).all():
        each = int(counts[0])
        for chosen, where, place in zip(
            indices.split(_MASKS), points.split(_MASKS * each), sampled.split(_MASKS * each), strict=True
        ):
            values = sample_points(masks[chosen, None].float(), where.reshape(len(chosen), -1, 2))
            place.copy_(values.view(place.shape))
        return sampled
    ends = counts.cumsum(0).tolist()
    for index, count, end in zip(indices.tolist(), counts.tolist(), ends, strict=True):
        run = slice(end - count, end)
        values = sample_points(masks[index, None, None].float(), points[run].reshape(1, -1, 2))
        sampled[run] = values.view(count, -1)
    return sampled


def _sample_together(masks: Tensor, points: Tensor, rows: Tensor) -> Tensor:
    height, width = masks.shape[-2:]
    flat = masks.flatten()
    start = rows[:, None] * (height * width)
    across, down = _neighbours(points[..., 0], width), _neighbours(points[..., 1], height)
    sampled = torch.zeros(len(rows), points.shape[-2], device=masks.device)
    for row, weight_y in down:
        start_of_row = start + row * width
        for column, weight_x in across:
            sampled += flat[start_of_row + column] * (weight_x * weight_y)
    return sampled


def _neighbours(place: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Return (index, weight) of the pixels before and after each place along an axis; outside, the weight is 0."""
    place = place * size - 0.5
    before = place.floor()
    after_weight = place - before
    return [
        # Integer indices: float32 could not represent the flat index of every pixel of very large images.
        (index.clamp(0, size - 1).long(), weight * ((index >= 0) & (index < size)))
        for index, weight in ((before, 1 - after_weight), (before + 1, after_weight))
    ]


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
