"""Loss terms that follow panoptic quality, for masks that are a softmax over slots (arXiv 2012.00759, 2207.04044)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from mask2former.modeling.layers.precision import at_least_float32
from mask2former.modeling.losses.pq_targets import MatchedTruth, matched_truth, void_of
from mask2former.modeling.losses.slot_masks import (
    class_probabilities,
    mean_of_nonzero,
    pairwise_dice,
    recomputed,
    require_slots,
    slot_logits,
    void_share,
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
        losses = []
        for index, layer in enumerate(layers):
            dtype = torch.promote_types(layer.masks.features.dtype, torch.float32)
            features = layer.masks.features.unbind()  # once: each indexing would add a gradient of full size
            of_images = [
                self.of_image(layers, index, image, features[image], target, matched_truth(target, pairs, index, dtype))
                for image, (target, pairs) in enumerate(zip(targets, matchings, strict=True))
            ]
            losses.append(torch.stack(of_images).mean())
        return {self.loss_name: self.weight * torch.stack(losses)}

    def of_image(
        self,
        layers: Sequence[MaskPrediction],
        index: int,
        image: int,
        features: Tensor,
        target: MaskTargets,
        truth: MatchedTruth,
    ) -> Tensor:
        """Compute the loss of an image in the layer ``index``, from its masks' features [C, 1, h, w]."""
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
        chosen = [len(layers) - 1] if self.share_final else range(len(layers))
        weights = torch.stack([self._weights(layers[index], index, targets, matchings) for index in chosen])
        logits = torch.stack([at_least_float32(layer.class_logits) for layer in layers])  # [L, B, N, K + 1]
        wanted = torch.full(logits.shape[:-1], logits.shape[-1] - 1, device=logits.device)
        for image, (target, (slots, indices)) in enumerate(zip(targets, matchings, strict=True)):
            wanted[:, image].scatter_(1, slots, target.classes[indices])
        terms = weights * -logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        means = [torch.stack([mean_of_nonzero(of_image) for of_image in layer]).mean() for layer in terms]
        return {"loss_ce": self.weight * torch.stack(means)}

    @torch.no_grad()
    def _weights(
        self, layer: MaskPrediction, index: int, targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> Tensor:
        """Compute the weight of each slot in the layer ``index``, [B, N]."""
        of_images = []
        for image, (target, matching) in enumerate(zip(targets, matchings, strict=True)):
            features = layer.masks.features[image]
            masks = slot_logits(layer.masks, image, features, target.masks.shape[-2:]).softmax(0)
            truth = matched_truth(target, matching, index, masks.dtype)
            if self.negative_weight == "one":
                weights = masks.new_full((len(masks),), 1 - self.alpha)
            else:
                weights = (1 - self.alpha) * void_share(masks, truth.void).clamp(min=self.floor)
            # The same dice as the matcher's; each slot with its own target is the diagonal of all pairs.
            counted = (~void_of(target)).to(masks.dtype)
            dice = pairwise_dice(masks[truth.slots], truth.shares, counted).diagonal()
            weights[truth.slots] = self.alpha * dice.clamp(min=self.floor)
            of_images.append(weights)
        return torch.stack(of_images)


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

    def of_image(
        self,
        layers: Sequence[MaskPrediction],
        index: int,
        image: int,
        features: Tensor,
        target: MaskTargets,
        truth: MatchedTruth,
    ) -> Tensor:
        masks = layers[index].masks
        probabilities = class_probabilities(layers[-1 if self.share_final else index], image)
        weights = probabilities[truth.slots, truth.classes].clamp(min=self.floor)
        counted = truth.inside if self.masking_void else torch.ones_like(truth.inside)
        size = target.masks.shape[-2:]
        numbers = masks.num_queries * size.numel()
        dice = recomputed(numbers, _smooth_dice, masks, image, features, size, truth, counted)
        return self.alpha / masks.num_queries * (weights * (1 - dice)).sum()


def _smooth_dice(
    masks: Masks, image: int, features: Tensor, size: Sequence[int], truth: MatchedTruth, counted: Tensor
) -> Tensor:
    """Compute the dice of each matched slot, smoothed by one, [M]."""
    logits = slot_logits(masks, image, features, size)
    found = (logits[truth.slots] - logits.logsumexp(0)).exp() * counted
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

    def of_image(
        self,
        layers: Sequence[MaskPrediction],
        index: int,
        image: int,
        features: Tensor,
        target: MaskTargets,
        truth: MatchedTruth,
    ) -> Tensor:
        masks, size = layers[index].masks, target.masks.shape[-2:]
        return recomputed(masks.num_queries * size.numel(), _mask_id, masks, image, features, size, truth)


def _mask_id(masks: Masks, image: int, features: Tensor, size: Sequence[int], truth: MatchedTruth) -> Tensor:
    logits = slot_logits(masks, image, features, size)
    missed = logits.logsumexp(0) - logits[truth.slots]  # [M, P]
    return mean_of_nonzero((truth.shares * missed).sum(0))
