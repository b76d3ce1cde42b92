"""Instance results."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor


class InstanceAccumulator:
    """The ``top_k`` most probable (query, class) pairs, scored by class and mask (Mask2Former, appendix B).

    score = class probability * mean mask probability inside the mask. Masks are where that probability is above
    ``mask_threshold``.

    Args:
        class_logits: [Q, K + 1].
        top_k: pairs chosen, or all if there are fewer.
        things: classes kept among the chosen pairs; None keeps all.
        size: (H, W) of the result.
        mask_threshold: in (0, 1).
    """

    def __init__(
        self,
        class_logits: Tensor,
        *,
        top_k: int,
        things: Collection[int] | None,
        size: tuple[int, int],
        mask_threshold: float = 0.5,
    ) -> None:
        self.least_logit = math.log(mask_threshold / (1 - mask_threshold))  # 0 for 0.5
        num_classes = class_logits.shape[-1] - 1
        probability = class_logits.float().softmax(-1)[:, :-1].flatten()
        scores, pairs = probability.topk(min(top_k, len(probability)), sorted=False)
        queries, classes = pairs // num_classes, pairs % num_classes
        if things is not None:
            is_thing = torch.isin(classes, torch.tensor(sorted(things), dtype=classes.dtype, device=classes.device))
            scores, queries, classes = scores[is_thing], queries[is_thing], classes[is_thing]
        # Several pairs may share a query, whose mask is computed once. In the order of queries, each chunk of masks is
        # written to one place, or to a few adjacent ones.
        order = queries.argsort()
        self.scores, self.classes = scores[order], classes[order]
        self.queries, self.place = queries[order].unique(return_inverse=True)
        self.masks = torch.zeros((len(order), *size), dtype=torch.bool, device=scores.device)
        self.areas = torch.zeros(len(self.queries), device=scores.device)
        self.sums = torch.zeros(len(self.queries), device=scores.device)  # of probabilities inside

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        inside = logits > self.least_logit
        self.areas[own] += inside.flatten(1).sum(1)
        self.sums[own] += (probability * inside).flatten(1).sum(1)
        if len(self.queries) == len(self.masks):
            self.masks[own, rows] = inside
        else:
            mine = ((self.place >= own.start) & (self.place < own.stop)).nonzero().flatten()
            self.masks[mine, rows] = inside[self.place[mine] - own.start]

    def result(self) -> Instances:
        """Return instances in any order.

        They have ``pred_masks`` bool [n, H, W], ``pred_boxes`` around them in pixels, ``scores`` and ``pred_classes``.
        """
        result = Instances((self.masks.shape[1], self.masks.shape[2]))
        result.pred_masks = self.masks
        result.pred_boxes = Boxes(bounding_boxes(self.masks))
        result.scores = self.scores * (self.sums / (self.areas + 1e-6))[self.place]
        result.pred_classes = self.classes
        return result


def bounding_boxes(masks: Tensor) -> Tensor:
    """Compute boxes around bool masks [n, H, W]: float32 [n, 4] (x0, y0, x1, y1) in pixels, zeros for empty masks.

    Right and bottom are exclusive. Detectron2's own method goes mask by mask and waits for the device at each.
    """
    ends = []
    for occupied in (masks.any(dim=1), masks.any(dim=2)):  # columns, rows
        first = occupied.int().argmax(dim=1)
        last = occupied.shape[1] - occupied.flip(1).int().argmax(dim=1)
        ends.append((first, last))
    (left, right), (top, bottom) = ends
    boxes = torch.stack([left, top, right, bottom], dim=1)
    return (boxes * masks.flatten(1).any(dim=1, keepdim=True)).float()
