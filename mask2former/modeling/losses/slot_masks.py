"""Masks that are a softmax over slots, on the grid of the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mask2former.modeling.layers.precision import at_least_float32
from mask2former.structures import PIXEL_EMBEDDING, MaskPrediction, Masks, resize_frames

_EPS = 1e-5
_FEW = 2**18  # numbers (1 MB) that are rather kept for the backward pass than computed twice


def require_slots(predictions: Sequence[MaskPrediction], who: str) -> None:
    """Check that masks are a softmax over slots, of single images.

    Raises:
        ValueError: they are not.
    """
    for prediction in predictions:
        if prediction.masks.activation != "softmax":
            raise ValueError(
                f"{who} compares masks that are a softmax over queries, but this network's are single masks (sigmoid). "
                "Name another one in MODEL.MASK_FORMER.CRITERION, MATCHER or LOSS_TERMS."
            )
        if (frames := prediction.masks.features.shape[2]) != 1:
            raise ValueError(f"{who} takes single images; found clips of {frames} frames.")


def slot_logits(masks: Masks, image: int, features: Tensor, size: Sequence[int]) -> Tensor:
    """Compute the mask logits of an image's slots on a grid.

    Args:
        masks: of a batch.
        image: index in the batch.
        features: the masks' features of this image, [C, 1, h, w].
        size: (H, W) of the grid.

    Returns:
        [N, H * W], float32 or wider.
    """
    # Resizing commutes with the product; slots are no more than channels, and their product is made of fewer pixels.
    logits = masks.combine(image, at_least_float32(features))
    return resize_frames(logits, size, _aligned(masks)).flatten(1)


def pixel_features(prediction: MaskPrediction, where: Tensor, size: Sequence[int]) -> Tensor:
    """Return the features that tell masks apart at pixels of a grid, without resizing them all.

    Args:
        prediction: of a batch.
        where: [B, k] int64, indices of pixels row by row.
        size: (H, W) of the grid.

    Returns:
        [B, C, k], float32 or wider.
    """
    masks = prediction.masks
    features = at_least_float32(prediction.extras.get(PIXEL_EMBEDDING, masks.features[:, :, 0]))
    if tuple(features.shape[-2:]) == tuple(size):
        return features.flatten(2).gather(2, where[:, None].expand(-1, features.shape[1], -1))
    width = size[1]
    places = []
    for position, side in ((where % width, width), (where // width, size[0])):
        position = position.to(features.dtype)
        places.append(2 * position / max(side - 1, 1) - 1 if _aligned(masks) else (2 * position + 1) / side - 1)
    grid = torch.stack(places, -1)[:, None]
    found = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=_aligned(masks))
    return found[:, :, 0]


def _aligned(masks: Masks) -> bool:
    return bool(getattr(masks, "align_corners", False))


@torch.no_grad()
def class_probabilities(prediction: MaskPrediction, image: int) -> Tensor:
    """Return [N, K + 1], float32 or wider, without gradient."""
    return at_least_float32(prediction.class_logits[image]).softmax(-1)


def pairwise_dice(masks: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Compute the dice of each slot with each target, [N, M].

    Args:
        masks: [N, P] probabilities.
        truth: [M, P].
        counted: [P], pixels of the masks that count.
    """
    masks = masks * counted
    return 2 * (masks @ truth.T) / (masks.sum(-1)[:, None] + truth.sum(-1) + 2 * _EPS)


def void_share(masks: Tensor, void: Tensor) -> Tensor:
    """Return the share of each mask [N, P] that lies on void pixels, [N]."""
    return (masks * void).sum(-1) / (masks.sum(-1) + _EPS)


def mean_of_nonzero(terms: Tensor) -> Tensor:
    """Divide the sum of all terms by the number of those that are not exactly 0, at least 1."""
    return terms.sum() / (terms.detach() != 0).sum().clamp(min=1)


def recomputed(numbers: int, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call a function without draws; what it computes is not kept, but made again in the backward pass.

    Args:
        numbers: elements of the largest tensor that it makes; of a few, they are kept: small images learn faster.
        function, arguments: the call.
    """
    if numbers <= _FEW:
        return function(*arguments)
    result: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
