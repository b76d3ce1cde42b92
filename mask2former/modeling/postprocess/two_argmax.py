"""Panoptic results by two argmaxes: of each query over classes, and of each pixel over queries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from mask2former.modeling.postprocess.panoptic import PANOPTIC_RULE_REGISTRY, number_segments
from mask2former.modeling.postprocess.settings import PostProcessing
from mask2former.modeling.postprocess.thresholds import TwoArgmaxThresholds


@PANOPTIC_RULE_REGISTRY.register()
class TwoArgmaxMerger:
    """Each pixel's most probable query, if it is kept and sure enough (MaX-DeepLab, arXiv 2012.00759, section 3.1).

    Queries whose most probable class apart from "no object" has at least ``thresholds.score`` are kept. A pixel goes to
    the kept query of the greatest mask probability m, if m is more than ``thresholds.pixel`` of the sum over kept
    queries there and no other query has a greater one. Stuff of one class becomes one segment. Segments below the least
    area of their kind are left out, their pixels go to nobody.

    For masks that are a softmax over queries, m over that sum is the softmax over the kept ones.

    Args:
        class_logits: [Q, K + 1].
        things: classes in [0, K) whose segments stay separate.
        thresholds: see above.
        size: (H, W) of the result.
    """

    def __init__(
        self,
        class_logits: Tensor,
        *,
        things: Collection[int],
        thresholds: TwoArgmaxThresholds,
        size: tuple[int, int],
    ) -> None:
        self.things, self.thresholds = things, thresholds
        self.scores, self.classes = class_logits.float().softmax(-1)[:, :-1].max(-1)
        self.kept = self.scores >= thresholds.score
        device = self.scores.device
        # All of them: those that are not kept have pixels too.
        self.queries = torch.arange(len(self.scores), device=device)
        self.best, self.best_dropped = (torch.full(size, -1.0, device=device) for _ in range(2))
        self.total = torch.zeros(size, device=device)  # of the kept ones' probabilities
        self.owner = torch.full(size, -1, dtype=torch.int32, device=device)

    @classmethod
    def from_settings(cls, class_logits: Tensor, size: tuple[int, int], settings: PostProcessing) -> TwoArgmaxMerger:
        return cls(class_logits, things=settings.things, thresholds=settings.two_argmax, size=size)

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        if not len(probability):
            return
        kept = self.kept[own, None, None]
        value, winner = torch.where(kept, probability, -1.0).max(0)
        better = value > self.best[rows]
        self.best[rows] = torch.where(better, value, self.best[rows])
        self.owner[rows] = torch.where(better, (winner + own.start).int(), self.owner[rows])
        self.total[rows] += (probability * kept).sum(0)
        dropped = torch.where(kept, -1.0, probability).amax(0)
        self.best_dropped[rows] = torch.maximum(self.best_dropped[rows], dropped)

    def result(self) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return segment ids, int32 [H, W], and segments.

        Id 0 is no segment. Each segment has ``id``, ``isthing`` and ``category_id`` in [0, K).
        """
        sure = (self.owner >= 0) & (self.best > self.thresholds.pixel * self.total) & (self.best >= self.best_dropped)
        owner = torch.where(sure, self.owner, -1)
        areas = torch.bincount(owner.flatten() + 1, minlength=len(self.queries) + 1)[1:].tolist()
        classes = self.classes.tolist()
        scale = (max(owner.shape) / self.thresholds.area_side) ** 2 if self.thresholds.area_side else 1.0
        stuff_areas: dict[int, int] = {}
        for category, area in zip(classes, areas, strict=True):
            stuff_areas[category] = stuff_areas.get(category, 0) + area

        taken = []
        for index, (category, area) in enumerate(zip(classes, areas, strict=True)):
            is_thing = category in self.things
            least = scale * (self.thresholds.thing_area if is_thing else self.thresholds.stuff_area)
            if area and (area if is_thing else stuff_areas[category]) >= least:
                taken.append(index)
        return number_segments(owner, classes, taken, self.things)
