"""Targets of masks that are a softmax over slots: on a grid of pixels, and divided among matched slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mask2former.structures import MaskTargets, Matching

STEP = 4  # masks are compared on every fourth pixel of rows and columns, the first one included


@dataclass
class GridTargets(MaskTargets):
    """Targets on a coarser grid of pixels.

    Attributes:
        areas: [N] int64, the masks' areas in pixels of the input.
    """

    areas: Tensor | None = None


def on_grid(target: MaskTargets, step: int = STEP) -> GridTargets:
    """Take every ``step``-th pixel of an image's targets; masks that have none are left out.

    Void pixels are in no mask. Nothing is interpolated.

    Raises:
        ValueError: a clip of several frames.
    """
    if target.masks.shape[1] != 1:
        raise ValueError(
            "Losses of masks that are a softmax over slots take single images; found clips of "
            f"{target.masks.shape[1]} frames."
        )
    masks = target.masks[..., ::step, ::step]
    void = None if target.void is None else target.void[..., ::step, ::step]
    if void is not None:
        masks = masks & ~void
    kept = masks.flatten(1).any(1)
    return GridTargets(
        target.classes[kept],
        masks[kept],
        void,
        None if target.semantic is None else target.semantic[..., ::step, ::step],
        target.masks.flatten(1).sum(1)[kept],
    )


def shares(target: MaskTargets, dtype: torch.dtype) -> Tensor:
    """Return the share of each mask in each pixel, [N, P]: masks that overlap have equal parts."""
    masks = target.masks.flatten(1).to(dtype)
    return masks / masks.sum(0).clamp(min=1)


def void_of(target: MaskTargets) -> Tensor:
    """Return the void pixels, bool [P]: those in no mask, where the targets do not say."""
    return ~target.masks.flatten(1).any(0) if target.void is None else target.void.flatten()


def labels_of(target: MaskTargets) -> Tensor:
    """Return the class of each pixel, int64 [P], and -1 where there is none: those of the masks, if not given."""
    if target.semantic is not None:
        return target.semantic.flatten()
    masks = target.masks.flatten(1)
    labels = torch.full((masks.shape[1],), -1, dtype=torch.int64, device=masks.device)
    if len(masks):
        labels = torch.where(masks.any(0), target.classes[masks.to(torch.uint8).argmax(0)], labels)
    return labels


class MatchedTruth(NamedTuple):
    """Masks that an image's slots should have in a layer. Masks without a slot are dropped: their pixels are void.

    Attributes:
        slots: [M] int64.
        classes: [M] int64.
        shares: [M, P], of each mask in each pixel.
        inside: [P] bool, pixels in a mask that has a slot.
        void: [P] bool, see :func:`void_of`, and the pixels of dropped masks.
    """

    slots: Tensor
    classes: Tensor
    shares: Tensor
    inside: Tensor
    void: Tensor


def matched_truth(target: MaskTargets, matching: Matching, layer: int, dtype: torch.dtype) -> MatchedTruth:
    """Return the masks of the slots that are matched in ``layer``."""
    slots, chosen = matching[0][layer], matching[1][layer]
    masks = target.masks.flatten(1)
    inside = masks[chosen].any(0)
    dropped = masks.any(0) & ~inside
    return MatchedTruth(slots, target.classes[chosen], shares(target, dtype)[chosen], inside, void_of(target) | dropped)


class BatchTruth(NamedTuple):
    """:class:`MatchedTruth` of all images of a batch, each with the same number M of masks; further ones are empty.

    Attributes:
        real: [B, M] bool, masks that are none of the further ones.
        slots: [B, M] int64.
        classes: [B, M] int64.
        shares: [B, M, P].
        inside: [B, P] bool.
        void: [B, P] bool.
        ignored: [B, P] bool, see :func:`void_of`: void pixels without those of dropped masks.
    """

    real: Tensor
    slots: Tensor
    classes: Tensor
    shares: Tensor
    inside: Tensor
    void: Tensor
    ignored: Tensor

    def of(self, images: slice) -> BatchTruth:
        """Return some images' part."""
        return BatchTruth(*(part[images] for part in self))


def batch_truths(
    targets: Sequence[MaskTargets], matchings: Sequence[Matching], layers: int, dtype: torch.dtype
) -> list[BatchTruth]:
    """Return the matched masks of each layer; the same object where layers have one matching."""
    if all(layers == 1 or indices.stride(0) == 0 for pair in matchings for indices in pair):  # one, expanded
        return [_batch_truth(targets, matchings, 0, dtype)] * layers
    return [_batch_truth(targets, matchings, layer, dtype) for layer in range(layers)]


def _batch_truth(
    targets: Sequence[MaskTargets], matchings: Sequence[Matching], layer: int, dtype: torch.dtype
) -> BatchTruth:
    truths = [matched_truth(*pair, layer, dtype) for pair in zip(targets, matchings, strict=True)]

    def padded(parts: Sequence[Tensor]) -> Tensor:
        return pad_sequence(list(parts), batch_first=True)

    return BatchTruth(
        padded([torch.ones_like(truth.slots, dtype=torch.bool) for truth in truths]),
        padded([truth.slots for truth in truths]),
        padded([truth.classes for truth in truths]),
        padded([truth.shares for truth in truths]),
        torch.stack([truth.inside for truth in truths]),
        torch.stack([truth.void for truth in truths]),
        torch.stack([void_of(target) for target in targets]),
    )
