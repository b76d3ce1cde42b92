"""Bipartite matching between predictions and targets (DETR, arXiv 2005.12872, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from mask2former.modeling.losses.pixel_losses import MaskLoss, build_mask_loss
from mask2former.structures import MaskPrediction, MaskTargets, Matching, require_sigmoid, sharing_features

MATCHER_REGISTRY = Registry("MATCHER")
MATCHER_REGISTRY.__doc__ = """
Matchers by name: ``matcher(cfg)`` is a module, (list of L ``MaskPrediction``, ``MaskTargets`` of each image) -> a
``Matching`` of each image. ``MODEL.MASK_FORMER.MATCHER`` names one.
"""

_FORBIDDEN = 1e9  # stands in for a cost that is not finite, which the assignment would refuse


def build_matcher(cfg: CfgNode) -> nn.Module:
    """Build the matcher that ``MODEL.MASK_FORMER.MATCHER`` names."""
    return MATCHER_REGISTRY.get(cfg.MODEL.MASK_FORMER.MATCHER)(cfg)


class CostMatcher(nn.Module):
    """Base of matchers that assign queries to targets one to one, at the least total of :meth:`cost`.

    Attributes:
        nonfinite_costs: number of costs so far that were not finite, which a diverged network gives; they are matched
            last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nonfinite_costs = 0

    @torch.no_grad()
    def forward(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTargets]) -> list[Matching]:
        """Match each prediction (one for each decoder layer) to the targets.

        All costs go to the CPU in one copy and all indices return in another, because each copy waits for the device.

        Returns:
            A matching for each image.
        """
        costs = [self.cost(predictions, image, target) for image, target in enumerate(targets)]
        flat = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
        self._count(flat)
        ends = np.cumsum([cost.numel() for cost in costs])
        on_cpu = [part.reshape(c.shape) for part, c in zip(np.split(flat, ends[:-1]), costs, strict=True)]
        assigned = [np.stack([_assign(cost) for cost in of_image]) for of_image in on_cpu]  # each [L, 2, M']
        device = predictions[0].class_logits.device
        indices = torch.from_numpy(np.concatenate(assigned, axis=-1)).to(device, non_blocking=True)
        return [(pairs[:, 0], pairs[:, 1]) for pairs in indices.split([x.shape[-1] for x in assigned], dim=-1)]

    def _count(self, costs: np.ndarray) -> None:
        """Count costs that are not finite, and show the count since the beginning among the training's scalars."""
        found = costs.size - int(np.isfinite(costs).sum())
        if not found:
            return
        self.nonfinite_costs += found
        try:
            storage = get_event_storage()
        except AssertionError:  # raised by Detectron2 outside of a training
            return
        storage.put_scalar("matcher_nonfinite_costs", self.nonfinite_costs, smoothing_hint=False)

    def cost(self, predictions: Sequence[MaskPrediction], image: int, target: MaskTargets) -> Tensor:
        """Compute the cost of every pair of one image: [L, Q, N] float32."""
        raise NotImplementedError


@MATCHER_REGISTRY.register()
class HungarianMatcher(CostMatcher):
    """One-to-one assignment of queries to targets at the least total cost (Mask2Former, arXiv 2112.01527, section 3.3).

    cost = class_weight * (-probability) + mask_weight * pixel loss + dice_weight * dice loss.

    Args:
        class_weight, mask_weight, dice_weight: weights of the terms.
        mask_loss: the pixel loss, and the pixels at which masks are compared.
    """

    @configurable
    def __init__(self, *, class_weight: float, mask_weight: float, dice_weight: float, mask_loss: MaskLoss) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.mask_loss = mask_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        return {
            "class_weight": node.CLASS_WEIGHT,
            "mask_weight": node.MASK_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "mask_loss": build_mask_loss(cfg),
        }

    def cost(self, predictions: Sequence[MaskPrediction], image: int, target: MaskTargets) -> Tensor:
        """Compute the cost of every pair of one image: [L, Q, N] float32.

        Predictions that share their features are compared at the same points.
        """
        require_sigmoid(predictions, type(self).__name__)
        costs: dict[int, Tensor] = {}
        for group in sharing_features(predictions):
            features = predictions[group[0]].masks.features[image].float()
            sampled, truth = self.mask_loss.matching_samples(features, target)
            # One prediction at a time: the logits of all of them would be by far the largest array of the losses.
            for index in group:
                costs[index] = self._cost_of_one(predictions[index], image, sampled, truth, target.classes)
        return torch.stack([costs[index] for index in range(len(predictions))])

    def _cost_of_one(
        self, prediction: MaskPrediction, image: int, sampled: Tensor, truth: Tensor, classes: Tensor
    ) -> Tensor:
        """Compute costs [Q, N] float32 from features [C, S] and targets [N, S] at the same points."""
        probability = prediction.class_logits[image].float().softmax(-1)
        with torch.autocast(sampled.device.type, enabled=False):
            logits = prediction.masks.combine(image, sampled)
            cost = self.class_weight * -probability[:, classes]
            cost = cost + self.mask_weight * self.mask_loss.pairwise(logits, truth)
            return cost + self.dice_weight * _pairwise_dice(logits, truth)


def _pairwise_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute the dice loss (V-Net, arXiv 1606.04797) of each pair of rows, smoothed by one: [..., Q, N]."""
    mask = logits.sigmoid()
    overlap = 2 * (mask @ truth.T)
    return 1 - (overlap + 1) / (mask.sum(-1, keepdim=True) + truth.sum(-1) + 1)


def _assign(cost: np.ndarray) -> np.ndarray:
    """Return the rows and columns, int64 [2, M], of the cheapest assignment."""
    # A diverged network gives NaN. The trainer reports it with the iteration, so matching must not fail before that.
    finite = np.nan_to_num(cost, nan=_FORBIDDEN, posinf=_FORBIDDEN, neginf=-_FORBIDDEN)
    from scipy.optimize import linear_sum_assignment  # only training needs it, and it takes a second to import

    return np.stack(linear_sum_assignment(finite))
