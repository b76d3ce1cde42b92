"""Results as tensors of fixed shape: post-processing for a graph without branches.

It does the arithmetic of :mod:`mask2former.modeling.postprocess` on all Q queries at once; queries that do not count
are marked instead of left out. Letters of shapes: :mod:`mask2former.structures`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def semantic_map(class_logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the class of each pixel, int64 [H, W], from class logits [Q, K + 1] and mask logits [Q, H, W]."""
    probability = class_logits.softmax(-1)[:, :-1]
    return torch.einsum("qk,qhw->khw", probability, masks.sigmoid()).argmax(0)


def best_instances(
    class_logits: Tensor, masks: Tensor, *, top_k: int, countable: Tensor, mask_threshold: float = 0.5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Choose the ``top_k`` most probable (query, class) pairs; return them by falling score.

    Args:
        class_logits: [Q, K + 1].
        masks: mask logits [Q, H, W].
        top_k: n; if there are fewer pairs, n is Q * K.
        countable: bool [K]; pairs of other classes get the score 0.
        mask_threshold: masks are where their probability is above this.

    Returns:
        Scores float32 [n], classes int64 [n], boxes float32 [n, 4] (x0, y0, x1, y1) in pixels, right and bottom
        exclusive, and masks bool [n, H, W].
    """
    num_classes = class_logits.shape[1] - 1
    top_k = min(top_k, len(class_logits) * num_classes)
    scores, pairs = class_logits.softmax(-1)[:, :-1].flatten().topk(top_k)
    queries, classes = pairs // num_classes, pairs % num_classes
    inside = masks > math.log(mask_threshold / (1 - mask_threshold))
    covered = inside.flatten(1).float()
    quality = (masks.flatten(1).sigmoid() * covered).sum(1) / (covered.sum(1) + 1e-6)
    scores, order = (scores * quality[queries] * countable[classes].float()).topk(top_k)
    queries, classes = queries[order], classes[order]
    return scores, classes, _boxes(inside)[queries], inside[queries]


def _boxes(masks: Tensor) -> Tensor:
    """Compute boxes, float32 [Q, 4], around masks, bool [Q, H, W]; zeros for empty masks."""
    ends = []
    for occupied in (masks.any(dim=1), masks.any(dim=2)):  # columns, rows
        place = torch.arange(occupied.shape[1], device=masks.device)
        first = torch.where(occupied, place, occupied.shape[1]).amin(1)
        last = torch.where(occupied, place, -1).amax(1) + 1
        ends.append((torch.where(last > 0, first, 0), last))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1).float()
