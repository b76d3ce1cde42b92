"""The training loss (MaskFormer, arXiv 2107.06278, section 3.3; Mask2Former, arXiv 2112.01527, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from mask2former.modeling.losses.terms import LossTerm, build_loss_terms
from mask2former.modeling.matcher import build_matcher
from mask2former.structures import MaskPrediction, MaskTargets

CRITERION_REGISTRY = Registry("CRITERION")
CRITERION_REGISTRY.__doc__ = """
Criteria by name: ``criterion(cfg)`` is a module, (``MaskPrediction``, ``MaskTargets`` of each image) -> weighted losses
by name. ``MODEL.MASK_FORMER.CRITERION`` names one.
"""


def build_criterion(cfg: CfgNode) -> nn.Module:
    """Build the criterion that ``MODEL.MASK_FORMER.CRITERION`` names."""
    return CRITERION_REGISTRY.get(cfg.MODEL.MASK_FORMER.CRITERION)(cfg)


@CRITERION_REGISTRY.register()
class SetCriterion(nn.Module):
    """Training loss: match queries to targets in every decoder layer, then compute the terms of each.

    Args:
        matcher: assigns queries to targets, separately for each layer.
        terms: the losses of matched predictions.
        deep_supervision: supervise the earlier layers too.
    """

    @configurable
    def __init__(self, *, matcher: nn.Module, terms: Sequence[LossTerm], deep_supervision: bool = True) -> None:
        super().__init__()
        self.matcher = matcher
        self.terms = nn.ModuleList(terms)
        self.deep_supervision = deep_supervision

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "matcher": build_matcher(cfg),
            "terms": build_loss_terms(cfg),
            "deep_supervision": cfg.MODEL.MASK_FORMER.DEEP_SUPERVISION,
        }

    def forward(self, prediction: MaskPrediction, targets: Sequence[MaskTargets]) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            prediction: the last layer's prediction, with those of the earlier layers in ``aux``.
            targets: one for each image.

        Returns:
            Scalars: the last layer's losses (``loss_ce``, ``loss_mask``, ``loss_dice``), and those of the i-th earlier
            layer, counted from 0, with the suffix ``_i``.

        Raises:
            ValueError: two terms return a loss of the same name.
        """
        layers = [*(prediction.aux if self.deep_supervision else []), prediction]
        matchings = self.matcher(layers, targets)
        losses: dict[str, Tensor] = {}
        with torch.autocast(prediction.class_logits.device.type, enabled=False):
            for term in self.terms:
                for name, by_layer in term(layers, targets, matchings).items():
                    if name in losses:
                        raise ValueError(
                            f"Two terms of MODEL.MASK_FORMER.LOSS_TERMS give the loss {name}; name only one of them."
                        )
                    *earlier, losses[name] = by_layer.reshape(-1).unbind()
                    losses |= {f"{name}_{index}": value for index, value in enumerate(earlier)}
        return losses
