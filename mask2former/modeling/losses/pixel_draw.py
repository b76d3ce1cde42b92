"""Draws of pixels, rather those of small masks."""

from __future__ import annotations

import torch
from torch import Tensor

from mask2former.modeling.losses.pq_targets import BatchTruth, MatchedTruth

_NEVER_BEFORE_OTHERS = 99999.0


def area_of_pixels(truth: MatchedTruth | BatchTruth) -> Tensor:
    """Return the area of each pixel's mask in pixels, [P], or [B, P] of a batch; 1 where there is none."""
    area = (truth.shares.sum(-1).unsqueeze(-2) @ truth.shares).squeeze(-2)
    return torch.where(truth.inside, area, torch.ones_like(area))


@torch.no_grad()
def draw_pixels(area: Tensor, last: Tensor, count: int, temperature: float) -> Tensor:
    """Draw different pixels; the probability to be the next is proportional to area ** -temperature.

    These are the greatest values of temperature * log(1 / area) + Gumbel noise.

    Args:
        area: [..., P], of each pixel's mask.
        last: [..., P] bool, pixels that are drawn after all others alone.
        count: number of pixels; no more than P are drawn.
        temperature: see above.

    Returns:
        [..., min(count, P)] int64.
    """
    pixels = area.shape[-1]
    score = temperature * (pixels / area).log() - torch.empty_like(area).exponential_().log()
    score = torch.where(last, score - _NEVER_BEFORE_OTHERS, score)
    return score.topk(min(count, pixels)).indices
