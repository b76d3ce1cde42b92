"""Places in an image where queries start: which are chosen, and masks that are bumps about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_WAVES = 6
_SHORTEST = 16  # wavelengths of 16, 32, ... 512 cells of the mask features
_RARE = 0.01  # probability of an object at a place before training, as of RetinaNet's anchors (arXiv 1708.02002, 4.1)


def place_classifier(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    """Make what classifies places: [B, C, H, W] -> logits [B, K, H, W], small at the beginning."""
    classify = nn.Conv2d(channels, num_classes, 1)
    nn.init.constant_(cast(Tensor, classify.bias), math.log(_RARE / (1 - _RARE)))
    return nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(), classify)


def bump_predictor(channels: int) -> nn.Linear:
    """Make what predicts a bump from a query: its level b and the weight of each wave, before softplus."""
    predictor = nn.Linear(channels, 1 + NUM_WAVES)
    nn.init.zeros_(predictor.weight)
    nn.init.ones_(predictor.bias)
    return predictor


def best_places(logits: Tensor, count: int) -> Tensor:
    """Choose the places of the ``count`` best local maxima of [B, K, H, W]: int64 [B, N], N = min(count, H * W)."""
    peaks = logits == F.max_pool2d(logits, 3, stride=1, padding=1)
    best = logits.where(peaks, logits - 100).amax(1).flatten(1)  # not -inf, so that others follow where peaks are few
    return best.topk(min(count, best.shape[1]), dim=1).indices


def best_places_of_clips(logits: Tensor, count: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """Choose the best places of clips, each at its best over the frames, and the frame where it is.

    Args:
        logits: [B * T, K, H, W]; the frames of a clip are consecutive.
        count: see :func:`best_places`.
        num_frames: T.

    Returns:
        int64 [B, N] each: the places, and the frame of each.
    """
    by_frame = logits.unflatten(0, (-1, num_frames))
    chosen = best_places(by_frame.amax(1), count)
    return chosen, by_frame.amax(2).argmax(1).flatten(1).gather(1, chosen)


def waves(position: Tensor) -> Tensor:
    """Compute cosines, then sines of each wavelength at positions [...], in cells: [..., 2 F]."""
    # Computed where they are needed: a constant would have to be copied to the device, which waits for it.
    wavelengths = _SHORTEST * 2.0 ** torch.arange(NUM_WAVES, device=position.device)
    angle = position[..., None] * (2 * math.pi / wavelengths)
    return torch.cat([angle.cos(), angle.sin()], -1)


def waves_of_grid(y: Tensor, x: Tensor) -> Tensor:
    """Compute the pixels' factor of bumps: waves of rows, of columns, and 1.

    Args:
        y, x: positions of rows [H] and of columns [W], in cells.

    Returns:
        [4 F + 1, H, W].
    """
    rows = waves(y).T[:, :, None].expand(-1, -1, x.shape[0])
    columns = waves(x).T[:, None].expand(-1, y.shape[0], -1)
    return torch.cat([rows, columns, torch.ones_like(rows[:1])])


def waves_of_places(chosen: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Compute the waves at places [B, N], which are indices of a grid, row by row: [B, N, 4 F].

    Args:
        chosen: int64.
        y, x: positions of the grid's rows [H] and columns [W], in cells.
    """
    # Looked up rather than computed from the index, because exported programs cannot divide by a size.
    rows, columns = y[:, None].expand(-1, x.shape[0]).flatten(), x.expand(y.shape[0], -1).flatten()
    return torch.cat([waves(rows[chosen]), waves(columns[chosen])], -1)


def bump(predicted: Tensor, at_places: Tensor) -> Tensor:
    """Compute the queries' factor of bumps, ``b + sum_k w_k (cos(u_k dx) + cos(u_k dy) - 2)``.

    Args:
        predicted: [B, N, 1 + F], b and w_k before softplus.
        at_places: waves at the queries' places, [B, N, 4 F].

    Returns:
        [B, N, 4 F + 1].
    """
    level, weights = predicted.split([1, NUM_WAVES], -1)
    weights = F.softplus(weights)
    constant = level - 2 * weights.sum(-1, keepdim=True)
    return torch.cat([at_places * weights.repeat(1, 1, 4), constant], -1)


def checked_places(count: int, loss_terms: Sequence[str], who: str) -> int:
    """Return how many queries of a decoder start from places.

    Args:
        count: ``MODEL.MASK_FORMER.NUM_LOCATED_QUERIES``.
        loss_terms: ``MODEL.MASK_FORMER.LOSS_TERMS``.
        who: the decoder's name.

    Raises:
        ValueError: none do, or nothing teaches the places.
    """
    if count < 1:
        raise ValueError(f"MODEL.MASK_FORMER.NUM_LOCATED_QUERIES is {count}; {who} needs at least 1.")
    if "PlaceLoss" not in loss_terms:
        raise ValueError(
            f"{who} learns its places by PlaceLoss, so MODEL.MASK_FORMER.LOSS_TERMS has to name it; found "
            f"{list(loss_terms)}. configs/_base_/located.yaml and configs/_base_/kmax_small.yaml do."
        )
    return count
