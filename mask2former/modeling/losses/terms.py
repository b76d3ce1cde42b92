"""The terms of the training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.losses.chunked_mask_loss import MatchedMaskLosses, MatchedTargets, compare
from mask2former.modeling.losses.class_weights import build_class_weights
from mask2former.modeling.losses.pixel_losses import MaskLoss, build_mask_loss
from mask2former.structures import (
    FactoredMasks,
    MaskPrediction,
    MaskTargets,
    Matching,
    require_sigmoid,
    sharing_features,
)

LOSS_TERM_REGISTRY = Registry("LOSS_TERM")
LOSS_TERM_REGISTRY.__doc__ = """
Terms by name: ``term(cfg)`` is a :class:`LossTerm`. ``MODEL.MASK_FORMER.LOSS_TERMS`` lists those that are summed up.
"""


def build_loss_terms(cfg: CfgNode) -> list[LossTerm]:
    """Build the terms that ``MODEL.MASK_FORMER.LOSS_TERMS`` lists."""
    return [LOSS_TERM_REGISTRY.get(name)(cfg) for name in cfg.MODEL.MASK_FORMER.LOSS_TERMS]


class LossTerm(nn.Module):
    """One term of the loss, computed for all supervised layers at once. It sees predictions and targets, no decoder."""

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        """Compute the term.

        Args:
            layers: L predictions, first layer first.
            targets: one for each image.
            matchings: one for each image.

        Returns:
            Weighted losses by name, float32 [L], or scalars where only the last layer counts.
        """
        raise NotImplementedError


@LOSS_TERM_REGISTRY.register()
class ClassLoss(LossTerm):
    """Cross-entropy over all queries (``loss_ce``); those without a target should say "no object".

    Args:
        num_classes: K, without "no object".
        weight: weight of the term.
        no_object_weight: weight of the class "no object" within the mean.
        class_weights: weights of the K classes within the mean; None: all 1.
    """

    empty_weight: Tensor

    @configurable
    def __init__(
        self, *, num_classes: int, weight: float, no_object_weight: float, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weight = weight
        empty_weight = torch.ones(num_classes + 1)
        if class_weights is not None:
            empty_weight[:-1] = torch.tensor(class_weights, dtype=torch.float32)
        empty_weight[-1] = no_object_weight
        self.register_buffer("empty_weight", empty_weight, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        return {
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "weight": node.CLASS_WEIGHT,
            "no_object_weight": node.NO_OBJECT_WEIGHT,
            "class_weights": build_class_weights(cfg),
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        logits = torch.stack([x.class_logits for x in layers]).float()  # [L, B, Q, K + 1]
        wanted = torch.full(logits.shape[:-1], self.num_classes, device=logits.device)
        for image, (target, (queries, chosen)) in enumerate(zip(targets, matchings, strict=True)):
            wanted[:, image].scatter_(1, queries, target.classes[chosen])
        loss = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), self.empty_weight, reduction="none")
        mean = loss.view(len(logits), -1).sum(1) / self.empty_weight[wanted].flatten(1).sum(1)
        return {"loss_ce": self.weight * mean}


@LOSS_TERM_REGISTRY.register()
class MaskAndDiceLoss(LossTerm):
    """Pixel loss and dice loss of matched masks (``loss_mask``, ``loss_dice``).

    Both are summed over pairs, frames and images, and divided by the number of targets, averaged over all ranks.

    Args:
        mask_loss: the pixel loss, and the pixels at which masks are compared.
        mask_weight, dice_weight: weights of the two losses.
        unlabeled_is_background: False: compare only pixels that are in a mask of any target, and not ``void``. That is
            for semantic targets, which cover all labelled pixels.
    """

    @configurable
    def __init__(
        self, *, mask_loss: MaskLoss, mask_weight: float, dice_weight: float, unlabeled_is_background: bool = True
    ) -> None:
        super().__init__()
        self.unlabeled_is_background = unlabeled_is_background
        self.mask_loss = mask_loss
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        return {
            "mask_loss": build_mask_loss(cfg),
            "mask_weight": node.MASK_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "unlabeled_is_background": node.UNLABELED_IS_BACKGROUND,
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        require_sigmoid(layers, type(self).__name__)
        num_masks = mean_over_ranks(sum(len(target) for target in targets), layers[0].class_logits.device)
        sums = [num_masks.new_zeros(2)] * len(layers)
        for group in sharing_features(layers):
            whole = len(group) == len(layers)  # indexing by a list would copy numbers to the device
            own = matchings if whole else [(queries[group], chosen[group]) for queries, chosen in matchings]
            of_group = self._sums([layers[index] for index in group], targets, own)
            for index, value in zip(group, of_group.unbind(1), strict=True):
                sums[index] = value
        mask_loss, dice_loss = torch.stack(sums, dim=1) / num_masks
        return {"loss_mask": self.mask_weight * mask_loss, "loss_dice": self.dice_weight * dice_loss}

    def _sums(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> Tensor:
        """Sum both losses over pairs, frames and images, for layers that share their features: [2, L]."""
        matched, orders = [], []
        for target, (_, chosen) in zip(targets, matchings, strict=True):
            order = chosen.flatten().argsort(stable=True)  # target after target, and within each, layer after layer
            labeled = None if self.unlabeled_is_background else _labeled(target)
            matched.append(_matched(target, chosen.flatten()[order], len(layers), labeled))
            orders.append(order)
        features = layers[0].masks.features.float()
        total = features.new_zeros(2, len(layers))
        for of_image, order in zip(self._pairs(layers, features, matchings, matched, orders), orders, strict=True):
            of_pairs = of_image.view(2, len(order), features.shape[2]).sum(-1)
            total = total + of_pairs.index_select(1, order.argsort()).view(2, len(layers), -1).sum(-1)
        return total

    def _pairs(
        self,
        layers: Sequence[MaskPrediction],
        features: Tensor,
        matchings: Sequence[Matching],
        matched: list[MatchedTargets],
        orders: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        """Compute both losses of each image's pairs, in the order of ``orders``: [2, R * T] each."""
        factored = [layer.masks for layer in layers if isinstance(layer.masks, FactoredMasks)]
        if len(factored) < len(layers):
            (layer,) = layers  # dense features are logits, so no other layer shares them
            chosen = [queries[0, order] for (queries, _), order in zip(matchings, orders, strict=True)]
            logits = [layer.masks.combine(i, features[i], queries) for i, queries in enumerate(chosen)]
            return [compare(self.mask_loss, x.flatten(0, 1), image) for x, image in zip(logits, matched, strict=True)]
        # Unbound once: each indexing would add another gradient of full size in the backward pass.
        embeds = torch.stack([masks.mask_embed for masks in factored]).float().unbind(1)  # [L, Q, C] of each image
        rows = []
        for embed, (queries, _), order in zip(embeds, matchings, orders, strict=True):
            of_pairs = embed.gather(1, queries[..., None].expand(-1, -1, embed.shape[-1])).flatten(0, 1)  # [L * M, C]
            rows.append(of_pairs.index_select(0, order))
        return MatchedMaskLosses.apply(self.mask_loss, matched, features, *rows)


def _labeled(target: MaskTargets) -> Tensor:
    """Return the pixels [T, H, W] that are in a mask and not void."""
    labeled = target.masks.any(0)
    return labeled if target.void is None else labeled & ~target.void


def _matched(target: MaskTargets, chosen: Tensor, layers: int, labeled: Tensor | None) -> MatchedTargets:
    """Build the targets of one image from ``chosen``, int64 [R], the target of each predicted mask."""
    frames = target.masks.shape[1]
    of_frame = (chosen[:, None] * frames + torch.arange(frames, device=chosen.device)).flatten()
    return MatchedTargets(target.masks.flatten(0, 1), of_frame, layers, labeled)


def mean_over_ranks(count: int | Tensor, device: torch.device) -> Tensor:
    """Average the number of targets over all ranks, at least 1, so that every mask weighs the same on every rank."""
    # A count that is on the device stays there: reading it would wait for all that is computed before.
    if isinstance(count, Tensor):
        mean = count.to(torch.float32, copy=True)
    else:
        mean = torch.full((), float(count), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean.clamp(min=1)
