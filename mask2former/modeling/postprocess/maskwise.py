"""Panoptic results by pasting whole masks, surest first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from mask2former.modeling.postprocess.panoptic import PANOPTIC_RULE_REGISTRY, number_segments
from mask2former.modeling.postprocess.settings import PostProcessing
from mask2former.modeling.postprocess.thresholds import MaskwiseThresholds

_BITS = 8  # masks that share a byte of each pixel


@PANOPTIC_RULE_REGISTRY.register()
class MaskwiseMerger:
    """Pasting of masks onto free pixels, in the order of score and mask confidence (kMaX-DeepLab, arXiv 2207.04044).

    A query's class is its most probable one apart from "no object", s that probability; its mask b is where the mask
    probability is above ``thresholds.pixel``, mu the mean probability inside. In the falling order of
    s ** class_exponent * mu ** mask_exponent, a query gets the free pixels of b if s is above the threshold (of things
    or of stuff) and the free pixels are more than ``overlap_threshold`` of b. Others block nothing. Stuff of one class
    becomes one segment.

    Masks are kept as one bit for each pixel and query whose score is high enough: 1/8 byte.

    Args:
        class_logits: [Q, K + 1].
        things: classes in [0, K) whose segments stay separate.
        thresholds: see above.
        overlap_threshold: see above.
        size: (H, W) of the result.
    """

    def __init__(
        self,
        class_logits: Tensor,
        *,
        things: Collection[int],
        thresholds: MaskwiseThresholds,
        overlap_threshold: float,
        size: tuple[int, int],
    ) -> None:
        self.things, self.thresholds, self.overlap_threshold = things, thresholds, overlap_threshold
        scores, classes = class_logits.float().softmax(-1)[:, :-1].max(-1)
        device = scores.device
        is_thing = torch.isin(classes, torch.tensor(sorted(things), dtype=classes.dtype, device=device))
        self.queries = (scores > torch.where(is_thing, thresholds.thing, thresholds.stuff)).nonzero().flatten()
        self.classes, self.scores = classes[self.queries], scores[self.queries]
        count = len(self.queries)
        self.covered = torch.zeros((-(-count // _BITS), *size), dtype=torch.uint8, device=device)
        self.areas = torch.zeros(count, dtype=torch.int64, device=device)
        # In float64 sums of probabilities above 1/4, multiples of 2 ** -26, are exact: their order does not matter.
        self.sums = torch.zeros(count, dtype=torch.float64, device=device)

    @classmethod
    def from_settings(cls, class_logits: Tensor, size: tuple[int, int], settings: PostProcessing) -> MaskwiseMerger:
        return cls(
            class_logits,
            things=settings.things,
            thresholds=settings.maskwise,
            overlap_threshold=settings.overlap_threshold,
            size=size,
        )

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        inside = probability > self.thresholds.pixel
        self.areas[own] += inside.flatten(1).sum(1)
        self.sums[own] += (probability * inside).flatten(1).sum(1, dtype=torch.float64)
        for index, mask in enumerate(inside, start=own.start):
            self.covered[index // _BITS, rows] |= mask.to(torch.uint8) << (index % _BITS)

    def result(self) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return segment ids, int32 [H, W], and segments.

        Id 0 is no segment. Each segment has ``id``, ``isthing`` and ``category_id`` in [0, K).
        """
        means = self.sums / self.areas.clamp(min=1)
        confidence = self.scores.double() ** self.thresholds.class_exponent * means**self.thresholds.mask_exponent
        order = confidence.argsort(descending=True, stable=True)
        owner = torch.full(self.covered.shape[1:], -1, dtype=torch.int32, device=self.covered.device)
        taken = torch.zeros(len(order), dtype=torch.bool, device=owner.device)
        indices = order.tolist()
        for index in indices:
            free = (self.covered[index // _BITS] >> (index % _BITS) & 1).bool() & (owner < 0)
            # Decided on the device, which need not be waited for.
            taken[index] = free.sum().double() > self.overlap_threshold * self.areas[index].double()
            owner = torch.where(free & taken[index], index, owner)
        chosen = [index for index, yes in zip(indices, taken[order].tolist(), strict=True) if yes]
        return number_segments(owner, self.classes.tolist(), chosen, self.things)
