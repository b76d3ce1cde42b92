"""Panoptic results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from detectron2.utils.registry import Registry
from torch import Tensor

from mask2former.modeling.postprocess.settings import PostProcessing

PANOPTIC_RULE_REGISTRY = Registry("PANOPTIC_RULE")
PANOPTIC_RULE_REGISTRY.__doc__ = """
Rules by name: ``rule.from_settings(class logits [Q, K + 1], (H, W), PostProcessing)`` is a
:class:`~mask2former.modeling.postprocess.streaming.ResultAccumulator` of (segment ids, segments).
``MODEL.MASK_FORMER.TEST.PANOPTIC_RULE`` names one.
"""


@PANOPTIC_RULE_REGISTRY.register()
class PanopticMerger:
    """Assignment of each pixel to the query of the greatest score times mask probability (MaskFormer, section 3.4).

    Only queries take part whose best class is not "no object" and has a score above ``object_mask_threshold``. A
    segment is the part of its own mask (probability >= 0.5) that a query wins. It is dropped if the pixels that the
    query wins are fewer than ``overlap_threshold`` of its mask's. Segments of one stuff class become one.

    Args:
        class_logits: [Q, K + 1].
        things: classes in [0, K) whose segments stay separate.
        object_mask_threshold, overlap_threshold: see above.
        size: (H, W) of the result.
    """

    def __init__(
        self,
        class_logits: Tensor,
        *,
        things: Collection[int],
        object_mask_threshold: float,
        overlap_threshold: float,
        size: tuple[int, int],
    ) -> None:
        self.things = things
        self.overlap_threshold = overlap_threshold
        scores, classes = class_logits.float().softmax(-1).max(-1)
        kept = (classes != class_logits.shape[-1] - 1) & (scores > object_mask_threshold)
        self.queries = kept.nonzero().flatten()
        self.classes, self.scores = classes[self.queries], scores[self.queries]
        device = scores.device
        self.best = torch.full(size, -1.0, device=device)
        self.owner = torch.full(size, -1, dtype=torch.int32, device=device)  # index into queries; -1: none
        self.inside = torch.zeros(size, dtype=torch.bool, device=device)  # whether the owner's own mask is there
        self.areas = torch.zeros(len(self.queries), dtype=torch.int64, device=device)  # of the masks, in pixels

    @classmethod
    def from_settings(cls, class_logits: Tensor, size: tuple[int, int], settings: PostProcessing) -> PanopticMerger:
        return cls(
            class_logits,
            things=settings.things,
            object_mask_threshold=settings.object_mask_threshold,
            overlap_threshold=settings.overlap_threshold,
            size=size,
        )

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        if not len(probability):
            return
        covered = probability >= 0.5
        self.areas[own] += covered.flatten(1).sum(1)
        value, winner = (self.scores[own, None, None] * probability).max(0)
        better = value > self.best[rows]
        self.best[rows] = torch.where(better, value, self.best[rows])
        self.owner[rows] = torch.where(better, (winner + own.start).int(), self.owner[rows])
        self.inside[rows] = torch.where(better, covered.gather(0, winner[None])[0], self.inside[rows])

    def result(self) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return segment ids, int32 [H, W], and segments.

        Id 0 is no segment. Each segment has ``id``, ``isthing`` and ``category_id`` in [0, K).
        """
        count = len(self.queries)
        won = torch.bincount(self.owner.flatten() + 1, minlength=count + 1)[1:]
        drawn = torch.bincount(self.owner[self.inside], minlength=count)
        table = torch.stack([self.classes, self.areas, won, drawn]).tolist()  # one copy from the device

        taken = []
        for index, (area, won_pixels, drawn_pixels) in enumerate(zip(*table[1:], strict=True)):
            # As published, pixels won outside the query's own mask count for the share, though they are not drawn.
            if drawn_pixels and won_pixels / area >= self.overlap_threshold:
                taken.append(index)
        ids, segments = number_segments(self.owner, table[0], taken, self.things)
        return ids * self.inside, segments


def number_segments(
    owner: Tensor, classes: Sequence[int], taken: Sequence[int], things: Collection[int]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Make segments of the pixels of queries, stuff of one class one segment.

    Args:
        owner: int32 [H, W], each pixel's query, -1 for none.
        classes: of each query.
        taken: the queries that are segments, in the order of the segments' ids; pixels of others have none.
        things: classes whose segments stay separate.

    Returns:
        Segment ids int32 [H, W], 0 for none, and segments with ``id``, ``isthing`` and ``category_id``.
    """
    segments: list[dict[str, Any]] = []
    stuff: dict[int, int] = {}
    segment_of = [0] * len(classes)
    for query in taken:
        category = classes[query]
        is_thing = category in things
        if not is_thing and category in stuff:
            segment_of[query] = stuff[category]
            continue
        segment_of[query] = len(segments) + 1
        segments.append({"id": segment_of[query], "isthing": is_thing, "category_id": category})
        if not is_thing:
            stuff[category] = segment_of[query]
    # Owner -1 (no query at all) reads the last entry.
    lookup = torch.tensor([*segment_of, 0], dtype=torch.int32, device=owner.device)
    return lookup[owner], segments
