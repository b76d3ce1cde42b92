"""Loss terms that follow panoptic quality, for masks that are a softmax over slots (arXiv 2012.00759, 2207.04044)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.layers.precision import at_least_float32
from mask2former.modeling.losses.pq_targets import BatchTruth, batch_truths
from mask2former.modeling.losses.slot_masks import (
    class_probabilities,
    mean_of_nonzero,
    of_slots,
    own_dice,
    pieces,
    recomputed,
    require_slots,
    slot_logits,
    void_share,
    wide_type,
)
from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY, LossTerm
from mask2former.structures import MaskPrediction, Masks, MaskTargets, Matching

NEGATIVE_WEIGHTS = ("void_share", "one")


class SlotMaskLoss(LossTerm):
    """Base of terms that compare the masks of each layer and image by themselves, and are averaged over the images."""

    loss_name: str
    weight: float

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        require_slots(layers, type(self).__name__)
        truths = batch_truths(targets, matchings, len(layers), wide_type(layers[-1]))
        size, losses = targets[0].masks.shape[-2:], []
        for index, (layer, truth) in enumerate(zip(layers, truths, strict=True)):
            of_images = [
                self.of_images(layers, index, images, features, size, truth.of(images))
                for images, features in pieces(layer.masks)
            ]
            losses.append(torch.cat(of_images).mean())
        return {self.loss_name: self.weight * torch.stack(losses)}

    def of_images(
        self,
        layers: Sequence[MaskPrediction],
        index: int,
        images: slice,
        features: Tensor,
        size: Sequence[int],
        truth: BatchTruth,
    ) -> Tensor:
        """Compute losses [b] in the layer ``index``, from masks' features [b, C, 1, h, w] of these images."""
        raise NotImplementedError


@LOSS_TERM_REGISTRY.register()
class PQClassLoss(LossTerm):
    """Cross-entropy of each slot's class, weighted by how well its mask fits (``loss_ce``).

    A matched slot weighs alpha * its dice; another should say "no object" and weighs (1 - alpha) * the share of its
    mask that lies on void pixels, or 1 - alpha. No gradient goes through the weights.

    Args:
        weight: weight of the term.
        alpha: share of matched slots.
        floor: the least dice and share.
        negative_weight: "void_share" or "one".
        share_final: all layers take the weights of the last one's masks.

    Raises:
        ValueError: an unknown ``negative_weight``.
    """

    @configurable
    def __init__(
        self,
        *,
        weight: float = 3.0,
        alpha: float = 0.75,
        floor: float = 1e-5,
        negative_weight: str = "void_share",
        share_final: bool = True,
    ) -> None:
        super().__init__()
        if negative_weight not in NEGATIVE_WEIGHTS:
            raise ValueError(
                f"MODEL.PQ.NEGATIVE_WEIGHT is {negative_weight!r}; choose from {', '.join(NEGATIVE_WEIGHTS)}."
            )
        self.weight, self.alpha, self.floor = weight, alpha, floor
        self.negative_weight, self.share_final = negative_weight, share_final

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "weight": cfg.MODEL.MASK_FORMER.CLASS_WEIGHT,
            "alpha": cfg.MODEL.PQ.ALPHA,
            "floor": cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT,
            "negative_weight": cfg.MODEL.PQ.NEGATIVE_WEIGHT,
            "share_final": cfg.MODEL.KMAX_DEEPLAB.SHARE_FINAL_MATCHING,
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        require_slots(layers, type(self).__name__)
        truths = batch_truths(targets, matchings, len(layers), wide_type(layers[-1]))
        chosen = [len(layers) - 1] if self.share_final else range(len(layers))
        size = targets[0].masks.shape[-2:]
        weights = torch.stack([self._weights(layers[index], truths[index], size) for index in chosen])
        logits = torch.stack([at_least_float32(layer.class_logits) for layer in layers])  # [L, B, N, K + 1]
        wanted = torch.full(logits.shape[:-1], logits.shape[-1] - 1, device=logits.device)
        for image, (target, (slots, indices)) in enumerate(zip(targets, matchings, strict=True)):
            wanted[:, image].scatter_(1, slots, target.classes[indices])
        terms = weights * -logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        return {"loss_ce": self.weight * mean_of_nonzero(terms).mean(-1)}

    @torch.no_grad()
    def _weights(self, layer: MaskPrediction, whole: BatchTruth, size: Sequence[int]) -> Tensor:
        """Compute the weight of each slot of a layer, [B, N]."""
        of_images = []
        for images, features in pieces(layer.masks):
            masks, truth = slot_logits(layer.masks, images, features, size).softmax(1), whole.of(images)
            if self.negative_weight == "one":
                weights = masks.new_full(masks.shape[:2], 1 - self.alpha)
            else:
                weights = (1 - self.alpha) * void_share(masks, truth.void).clamp(min=self.floor)
            dice = own_dice(of_slots(masks, truth.slots), truth.shares, (~truth.ignored).to(masks.dtype))
            # Further masks, which are none, go to one more slot: choosing the real ones would wait for a GPU.
            slots = torch.where(truth.real, truth.slots, weights.shape[1])
            matched = F.pad(weights, (0, 1)).scatter(1, slots, self.alpha * dice.clamp(min=self.floor))
            of_images.append(matched[:, :-1])
        return torch.cat(of_images)


@LOSS_TERM_REGISTRY.register()
class PQMaskLoss(SlotMaskLoss):
    """Dice loss of matched slots, weighted by the probability of the right class (``loss_dice``).

    Args:
        weight: weight of the term.
        alpha: share of matched slots.
        floor: the least probability.
        masking_void: leave pixels in no matched mask out of the dice.
        share_final: all layers take the probabilities of the last one.
    """

    loss_name = "loss_dice"

    @configurable
    def __init__(
        self,
        *,
        weight: float = 3.0,
        alpha: float = 0.75,
        floor: float = 1e-5,
        masking_void: bool = True,
        share_final: bool = True,
    ) -> None:
        super().__init__()
        self.weight, self.alpha, self.floor = weight, alpha, floor
        self.masking_void, self.share_final = masking_void, share_final

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "weight": cfg.MODEL.MASK_FORMER.DICE_WEIGHT,
            "alpha": cfg.MODEL.PQ.ALPHA,
            "floor": cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT,
            "masking_void": cfg.MODEL.KMAX_DEEPLAB.MASKING_VOID_PIXEL,
            "share_final": cfg.MODEL.KMAX_DEEPLAB.SHARE_FINAL_MATCHING,
        }

    def of_images(
        self,
        layers: Sequence[MaskPrediction],
        index: int,
        images: slice,
        features: Tensor,
        size: Sequence[int],
        truth: BatchTruth,
    ) -> Tensor:
        masks = layers[index].masks
        of_slot = of_slots(class_probabilities(layers[-1 if self.share_final else index], images), truth.slots)
        weights = of_slot.gather(2, truth.classes[..., None])[..., 0].clamp(min=self.floor) * truth.real
        counted = truth.inside if self.masking_void else torch.ones_like(truth.inside)
        dice = recomputed(_numbers(masks, size), _smooth_dice, masks, images, features, size, truth, counted)
        return self.alpha / masks.num_queries * (weights * (1 - dice)).sum(-1)


def _numbers(masks: Masks, size: Sequence[int]) -> int:
    """Return the number of an image's mask logits on a grid."""
    return masks.num_queries * size[0] * size[1]


def _smooth_dice(
    masks: Masks, images: slice, features: Tensor, size: Sequence[int], truth: BatchTruth, counted: Tensor
) -> Tensor:
    """Compute the dice of each matched slot, smoothed by one, [b, M]."""
    logits = slot_logits(masks, images, features, size)
    found = (of_slots(logits, truth.slots) - logits.logsumexp(1, keepdim=True)).exp() * counted[:, None]
    return (2 * (truth.shares * found).sum(-1) + 1) / (truth.shares.sum(-1) + found.sum(-1) + 1)


@LOSS_TERM_REGISTRY.register()
class MaskIDLoss(SlotMaskLoss):
    """Cross-entropy over slots of the slot that should have a pixel (``loss_mask``), where a matched mask has it.

    Args:
        weight: weight of the term.
    """

    loss_name = "loss_mask"

    @configurable
    def __init__(self, *, weight: float = 0.3) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"weight": cfg.MODEL.MASK_FORMER.MASK_WEIGHT}

    def of_images(
        self,
        layers: Sequence[MaskPrediction],
        index: int,
        images: slice,
        features: Tensor,
        size: Sequence[int],
        truth: BatchTruth,
    ) -> Tensor:
        masks = layers[index].masks
        return recomputed(_numbers(masks, size), _mask_id, masks, images, features, size, truth)


def _mask_id(masks: Masks, images: slice, features: Tensor, size: Sequence[int], truth: BatchTruth) -> Tensor:
    logits = slot_logits(masks, images, features, size)
    missed = logits.logsumexp(1, keepdim=True) - of_slots(logits, truth.slots)  # [b, M, P]
    return mean_of_nonzero((truth.shares * missed).sum(1))
