"""The matcher of networks with a query for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import nn

from mask2former.modeling.matcher import MATCHER_REGISTRY
from mask2former.structures import MaskPrediction, MaskTargets, Matching


@MATCHER_REGISTRY.register()
class ClassMatcher(nn.Module):
    """Query k takes the target of class k (SegViT, arXiv 2210.05844, section 3.2). Nothing is compared."""

    @configurable
    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def forward(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTargets]) -> list[Matching]:
        """Match each prediction to the targets of each image, whose classes have to be distinct.

        Raises:
            ValueError: an image has two targets of a class, as instances are, or the network lacks a class's query.
        """
        layers, queries = len(predictions), predictions[0].masks.num_queries
        wrong = [_is_wrong(target.classes, queries) for target in targets]
        if wrong and torch.stack(wrong).any():
            first = next(target.classes.tolist() for target, bad in zip(targets, wrong, strict=True) if bad)
            raise ValueError(
                f"MODEL.MASK_FORMER.MATCHER ClassMatcher gives class k the query k of {queries}, so it needs at most "
                f"one mask of each of these classes in an image; found masks of classes {first}. Semantic data "
                "(INPUT.DATASET_MAPPER_NAME mask_former_semantic) has such masks; for objects take HungarianMatcher."
            )
        return [
            (
                target.classes.expand(layers, -1),
                torch.arange(len(target), device=target.classes.device).expand(layers, -1),
            )
            for target in targets
        ]


def _is_wrong(classes: torch.Tensor, queries: int) -> torch.Tensor:
    ordered = classes.sort().values
    return (ordered[1:] == ordered[:-1]).any() | (classes >= queries).any()
