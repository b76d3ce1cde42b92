"""Masks that are a softmax over slots, on the grid of the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mask2former.modeling.layers.precision import at_least_float32, without_autocast
from mask2former.structures import PIXEL_EMBEDDING, DenseMasks, MaskPrediction, Masks, resize_frames

_EPS = 1e-5
_FEW = 2**18  # numbers (1 MB) that are rather kept for the backward pass than computed twice
_SMALL = 2**20  # mask logits of a batch (4 MB) that are computed at once, and kept for all terms


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


def on_one_grid(prediction: MaskPrediction, size: Sequence[int]) -> MaskPrediction:
    """Replace small masks by their logits on a grid of ``size`` (H, W), which all terms then read.

    Large ones stay as they are: each term makes the logits of an image at a time, and again in the backward pass. So do
    those in half precision, whose product has to be made in float32.
    """
    masks = prediction.masks
    numbers = len(masks.features) * masks.num_queries * size[0] * size[1]
    if numbers > _SMALL or masks.features.shape[2] != 1 or masks.features.dtype != wide_type(prediction):
        return prediction
    with without_autocast(masks.features):
        logits = _resized(masks.logits(), masks, size)[:, :, None]
    extras = {PIXEL_EMBEDDING: masks.features[:, :, 0], **prediction.extras}
    return replace(prediction, masks=DenseMasks(logits, masks.activation, _aligned(masks)), extras=extras)


def pieces(masks: Masks) -> list[tuple[slice, Tensor]]:
    """Return the images of a batch that are compared at a time, and their features [b, C, 1, h, w].

    All of them where masks are small logits, and one at a time otherwise.
    """
    features = masks.features
    if isinstance(masks, DenseMasks) and features.numel() <= _SMALL:
        return [(slice(0, len(features)), features)]
    # Taken apart once: each indexing would add a gradient of full size.
    return [(slice(image, image + 1), one[None]) for image, one in enumerate(features.unbind())]


def slot_logits(masks: Masks, images: slice, features: Tensor, size: Sequence[int]) -> Tensor:
    """Compute the mask logits of some images' slots on a grid.

    Args:
        masks: of a batch.
        images: indices in the batch.
        features: the masks' features of these images, [b, C, 1, h, w].
        size: (H, W) of the grid.

    Returns:
        [b, N, H * W], float32 or wider.
    """
    features = at_least_float32(features)
    if not isinstance(masks, DenseMasks):
        # Resizing commutes with the product; slots are no more than channels, and their product is of fewer pixels.
        numbers = range(len(masks.features))[images]
        products = [masks.combine(*one) for one in zip(numbers, features.unbind(), strict=True)]
        features = products[0][None] if len(products) == 1 else torch.stack(products)
    return _resized(features, masks, size).flatten(2)


def _resized(logits: Tensor, masks: Masks, size: Sequence[int]) -> Tensor:
    """Resize [b, N, 1, h, w] to [b, N, *size]."""
    return resize_frames(logits[:, :, 0], size, _aligned(masks))


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


def wide_type(prediction: MaskPrediction) -> torch.dtype:
    """Return the number format in which masks are compared: float32, or their own if that is wider."""
    return torch.promote_types(prediction.masks.features.dtype, torch.float32)


def of_slots(values: Tensor, slots: Tensor) -> Tensor:
    """Return the rows of ``values`` [b, N, P] that belong to slots [b, M]: [b, M, P]."""
    return values.gather(1, slots[:, :, None].expand(-1, -1, values.shape[2]))


@torch.no_grad()
def class_probabilities(prediction: MaskPrediction, images: slice) -> Tensor:
    """Return [b, N, K + 1], float32 or wider, without gradient."""
    return at_least_float32(prediction.class_logits[images]).softmax(-1)


def pairwise_dice(masks: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Compute the dice of each slot with each target, [N, M].

    Args:
        masks: [N, P] probabilities.
        truth: [M, P].
        counted: [P], pixels of the masks that count.
    """
    masks = masks * counted
    return 2 * (masks @ truth.T) / (masks.sum(-1)[:, None] + truth.sum(-1) + 2 * _EPS)


def own_dice(masks: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Compute the dice of each slot with its own target, [b, M]: the diagonal of :func:`pairwise_dice`.

    Args:
        masks: [b, M, P] probabilities.
        truth: [b, M, P].
        counted: [b, P], pixels of the masks that count.
    """
    masks = masks * counted[:, None]
    return 2 * (masks * truth).sum(-1) / (masks.sum(-1) + truth.sum(-1) + 2 * _EPS)


def void_share(masks: Tensor, void: Tensor) -> Tensor:
    """Return the share of each mask [b, N, P] that lies on void pixels [b, P]: [b, N]."""
    return (masks * void[:, None]).sum(-1) / (masks.sum(-1) + _EPS)


def mean_of_nonzero(terms: Tensor) -> Tensor:
    """Divide the sum of terms [..., n] by the number of those that are not exactly 0, at least 1: [...]."""
    return terms.sum(-1) / (terms.detach() != 0).sum(-1).clamp(min=1)


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
