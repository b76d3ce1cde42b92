"""Losses of matched masks, a chunk of masks at a time, forward and backward: memory hardly grows with their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mask2former.modeling.losses.pixel_losses import MaskLoss

# Masks in a chunk, by device. Memory holds their logits at the size of the features, and the candidate points of each.
_AT_ONCE = {"cpu": 64}
_USUALLY_AT_ONCE = 512


class MatchedTargets(NamedTuple):
    """Targets of one image's R predicted masks.

    Attributes:
        masks: [N * T, H', W'] bool.
        rows: [R * T] int64, the index in ``masks`` for each frame of each predicted mask. Consecutive equal indices
            are read together.
        per_mask: number of predicted masks compared with the same target, one of each layer; never split by a chunk.
        labeled: [T, H', W'] bool, pixels that count; None: all.
    """

    masks: Tensor
    rows: Tensor
    per_mask: int
    labeled: Tensor | None = None


class MatchedMaskLosses(torch.autograd.Function):
    """Pixel loss (mean over pixels) and dice loss of each predicted mask.

    Logits are multiplied out for some masks at a time and compared at once; only the places of comparison are kept, and
    the backward pass makes the rest again. Not twice differentiable.

    Of 20 masks in 10 layers of each of two images, 12544 points: 147 MiB for 280 at once, 1.04 s for 0.93 (AMD EPYC,
    one thread). ``torch.utils.checkpoint`` of each part takes 222 MiB and 1.21 s.
    """

    @staticmethod
    def forward(
        ctx: Any, mask_loss: MaskLoss, images: list[MatchedTargets], features: Tensor, *embeds: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute losses [2, R_i * T] of each image from features [B, C, T, H, W] float32 and its embeds [R_i, C]."""
        places: list[Tensor | None] = []
        results = []
        for image, feature, embed in zip(images, features, embeds, strict=True):
            result = embed.new_empty(2, len(image.rows))
            for part, of_part in _parts(image, feature):
                logits = _logits(embed[part], feature)
                where = mask_loss.choose_points(logits)
                result[:, of_part] = _compare(mask_loss, logits, image, image.rows[of_part], where)
                places.append(where)
            results.append(result)
        ctx.mask_loss, ctx.images = mask_loss, images
        ctx.save_for_backward(features, *embeds, *places)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, *others = ctx.saved_tensors
        embeds, places = others[: len(ctx.images)], iter(others[len(ctx.images) :])
        # The frames of a clip must follow each other in memory, so that all pixels can be viewed as one matrix row.
        layout = torch.preserve_format if features.shape[2] == 1 else torch.contiguous_format
        of_features = torch.zeros_like(features, memory_format=layout)
        of_embeds = [torch.empty_like(embed) for embed in embeds]
        with torch.autocast(features.device.type, enabled=False):
            for index, (image, embed, grad) in enumerate(zip(ctx.images, embeds, grads, strict=True)):
                feature, of_feature = features[index], of_features[index]
                for part, of_part in _parts(image, feature):
                    logits = _logits(embed[part], feature).requires_grad_()
                    with torch.enable_grad():
                        losses = _compare(ctx.mask_loss, logits, image, image.rows[of_part], next(places))
                    (of_logits,) = torch.autograd.grad(losses, logits, grad[:, of_part])
                    of_logits = of_logits.view(-1, feature[0].numel())
                    torch.mm(of_logits, feature.flatten(1).T, out=of_embeds[index][part])
                    of_feature.view(len(of_feature), -1).addmm_(embed[part].T, of_logits)
        return None, None, of_features, *of_embeds


def compare(mask_loss: MaskLoss, logits: Tensor, image: MatchedTargets) -> Tensor:
    """Compare predicted masks with their targets, all at once.

    Args:
        mask_loss: the pixel loss, and the pixels at which masks are compared.
        logits: [R * T, H, W] float32.
        image: their targets.

    Returns:
        [2, R * T], pixel loss (mean over pixels) and dice loss.
    """
    return _compare(mask_loss, logits, image, image.rows, mask_loss.choose_points(logits))


def _parts(image: MatchedTargets, feature: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield the predicted masks of each chunk, and their frames."""
    frames = feature.shape[1]
    rows = len(image.rows) // frames
    most = _AT_ONCE.get(feature.device.type, _USUALLY_AT_ONCE) // frames
    step = max(1, most // image.per_mask) * image.per_mask
    for start in range(0, rows, step):
        end = min(start + step, rows)
        yield slice(start, end), slice(start * frames, end * frames)


def _logits(embed: Tensor, feature: Tensor) -> Tensor:
    """Multiply [R, C] by [C, T, H, W] to [R * T, H, W]."""
    return (embed @ feature.flatten(1)).view(-1, *feature.shape[-2:])


def _compare(mask_loss: MaskLoss, logits: Tensor, image: MatchedTargets, rows: Tensor, where: Tensor | None) -> Tensor:
    """Compute pixel and dice losses, [2, R * T], at the points ``where``."""
    sampled, truth = mask_loss.gather(logits, image.masks, rows, where)
    per_pixel, mask = mask_loss.pixel_loss(sampled, truth), sampled.sigmoid()
    if image.labeled is None:
        per_mask = per_pixel.mean(1)
    else:
        frames = rows % len(image.labeled)
        if where is None:  # all pixels, so that the logits need not be resized once more
            share = image.labeled.flatten(1)[frames].to(mask.dtype)
        else:
            share = mask_loss.gather(logits, image.labeled, frames, where)[1]
        per_mask = (per_pixel * share).sum(1) / share.sum(1).clamp(min=1)
        mask, truth = mask * share, truth * share
    dice = 1 - (2 * (mask * truth).sum(1) + 1) / (mask.sum(1) + truth.sum(1) + 1)
    return torch.stack([per_mask, dice])
