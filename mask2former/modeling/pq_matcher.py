"""Matching of slots to targets by the product of class probability and dice (MaX-DeepLab, arXiv 2012.00759)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from mask2former.modeling.layers.precision import without_autocast
from mask2former.modeling.losses.pq_targets import shares, void_of
from mask2former.modeling.losses.slot_masks import class_probabilities, pairwise_dice, require_slots, slot_logits
from mask2former.modeling.matcher import MATCHER_REGISTRY, CostMatcher
from mask2former.structures import MaskPrediction, MaskTargets, Matching


@MATCHER_REGISTRY.register()
class PQMatcher(CostMatcher):
    """One-to-one assignment of slots to targets at the greatest total of class probability * dice.

    Void pixels are out of the dice. Targets beyond the number of slots get none.

    Args:
        share_final: all layers take the matching of the last one.
    """

    @configurable
    def __init__(self, *, share_final: bool = True) -> None:
        super().__init__()
        self.share_final = share_final

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"share_final": cfg.MODEL.KMAX_DEEPLAB.SHARE_FINAL_MATCHING}

    @torch.no_grad()
    def forward(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTargets]) -> list[Matching]:
        """Match each prediction (one for each layer) to the targets."""
        require_slots(predictions, type(self).__name__)
        if not self.share_final:
            return super().forward(predictions, targets)
        matchings = super().forward(predictions[-1:], targets)
        count = len(predictions)
        return [(slots.expand(count, -1), chosen.expand(count, -1)) for slots, chosen in matchings]

    def cost(self, predictions: Sequence[MaskPrediction], image: int, target: MaskTargets) -> Tensor:
        """Compute -similarity of every pair of one image: [L, N, M] float32."""
        return torch.stack([-self.similarity(prediction, image, target) for prediction in predictions]).float()

    def similarity(self, prediction: MaskPrediction, image: int, target: MaskTargets) -> Tensor:
        """Compute class probability * dice of every pair of one image: [N, M]."""
        masks, images = prediction.masks, slice(image, image + 1)
        with without_autocast(masks.features):
            found = slot_logits(masks, images, masks.features[images], target.masks.shape[-2:])[0].softmax(0)
            counted = (~void_of(target)).to(found.dtype)
            dice = pairwise_dice(found, shares(target, found.dtype), counted)
        return class_probabilities(prediction, images)[0, :, target.classes] * dice
