"""Panoptic results as tensors of fixed shape, by the rules of :mod:`mask2former.modeling.postprocess`.

All return ids int32 [H, W], 0 for no segment; the class of segment i + 1 at index i, int64 [Q], -1 after the last one;
and its score, float32 [Q], 0 after the last one. All take class logits [Q, K + 1], mask logits [Q, H, W] of which a
sigmoid is the probability, and ``is_thing``, bool [K].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mask2former.modeling.postprocess import PostProcessing
from mask2former.modeling.postprocess.thresholds import MaskwiseThresholds, TwoArgmaxThresholds

Panoptic = tuple[Tensor, Tensor, Tensor]
Rule = Callable[[Tensor, Tensor], Panoptic]


def panoptic_map(
    class_logits: Tensor,
    masks: Tensor,
    *,
    is_thing: Tensor,
    object_mask_threshold: float,
    overlap_threshold: float,
) -> Panoptic:
    """Compute segments, numbered from 1 in the order of their queries.

    Args:
        object_mask_threshold, overlap_threshold: see :func:`mask2former.modeling.postprocess.panoptic_inference`.
    """
    scores, classes = class_logits.softmax(-1).max(-1)
    counts = (classes != len(is_thing)) & (scores > object_mask_threshold)
    probability = masks.sigmoid()
    covered = probability >= 0.5
    rated = torch.where(counts[:, None, None], scores[:, None, None] * probability, -1.0)
    best, owner = rated.max(0)
    inside = covered.gather(0, owner[None])[0] & (best >= 0)
    won, drawn = _areas(owner, best >= 0, len(counts)), _areas(owner, inside, len(counts))
    area = covered.flatten(1).sum(1)
    valid = counts & (drawn > 0) & (won.double() / area.double() >= overlap_threshold)
    return _numbered(owner, inside, valid, classes, scores, is_thing)


def maskwise_map(
    class_logits: Tensor,
    masks: Tensor,
    *,
    is_thing: Tensor,
    thresholds: MaskwiseThresholds,
    overlap_threshold: float,
) -> Panoptic:
    """Paste masks, surest first; a step of the program for each query.

    Args:
        thresholds, overlap_threshold: see :class:`mask2former.modeling.postprocess.MaskwiseMerger`.
    """
    scores, classes = class_logits.softmax(-1)[:, :-1].max(-1)
    counts = scores > torch.where(is_thing[classes], thresholds.thing, thresholds.stuff)
    probability = masks.sigmoid()
    covered = probability > thresholds.pixel
    area = covered.flatten(1).sum(1)
    mean = (probability * covered).flatten(1).sum(1, dtype=torch.float64) / area.clamp(min=1)
    confidence = scores.double() ** thresholds.class_exponent * mean**thresholds.mask_exponent
    order = torch.where(counts, confidence, -1.0).topk(len(counts)).indices  # ONNX has no stable sort
    counts, covered, area = counts[order], covered[order], area[order]
    owner = torch.full_like(covered[0], -1, dtype=torch.int64)
    taken = []
    for index in range(len(order)):
        free = covered[index] & (owner < 0)
        taken.append(counts[index] & (free.sum().double() > overlap_threshold * area[index].double()))
        owner = torch.where(free & taken[-1], index, owner)
    return _numbered(owner.clamp(min=0), owner >= 0, torch.stack(taken), classes[order], scores[order], is_thing)


def two_argmax_map(
    class_logits: Tensor, masks: Tensor, *, is_thing: Tensor, thresholds: TwoArgmaxThresholds
) -> Panoptic:
    """Give each pixel to its most probable query, if that one is kept and sure enough.

    Args:
        thresholds: see :class:`mask2former.modeling.postprocess.TwoArgmaxMerger`.
    """
    scores, classes = class_logits.softmax(-1)[:, :-1].max(-1)
    kept = scores >= thresholds.score
    probability = masks.sigmoid()
    best, owner = torch.where(kept[:, None, None], probability, -1.0).max(0)
    others = torch.where(kept[:, None, None], -1.0, probability).amax(0)
    total = (probability * kept[:, None, None]).sum(0)
    sure = (best >= 0) & (best > thresholds.pixel * total) & (best >= others)
    area = _areas(owner, sure, len(kept))
    thing = is_thing[classes]
    of_class = torch.zeros(len(is_thing), dtype=area.dtype, device=area.device).scatter_add(0, classes, area)
    least = torch.where(thing, float(thresholds.thing_area), float(thresholds.stuff_area))
    if thresholds.area_side:
        sides = [torch.scalar_tensor(side, dtype=torch.float64) for side in owner.shape]
        least = least * (torch.maximum(*sides) / thresholds.area_side) ** 2
    valid = (area > 0) & (torch.where(thing, area, of_class[classes]) >= least)
    return _numbered(owner, sure, valid, classes, scores, is_thing)


def panoptic_rule(settings: PostProcessing, is_thing: Tensor) -> Rule:
    """Return the function of class logits and mask logits that does what ``settings`` ask for.

    Raises:
        ValueError: it is another rule than ours.
    """
    name, overlap = settings.panoptic_rule, settings.overlap_threshold
    if name == "PanopticMerger":
        least = settings.object_mask_threshold
        return lambda logits, masks: panoptic_map(
            logits, masks, is_thing=is_thing, object_mask_threshold=least, overlap_threshold=overlap
        )
    if name == "MaskwiseMerger":
        return lambda logits, masks: maskwise_map(
            logits, masks, is_thing=is_thing, thresholds=settings.maskwise, overlap_threshold=overlap
        )
    if name == "TwoArgmaxMerger":
        return lambda logits, masks: two_argmax_map(logits, masks, is_thing=is_thing, thresholds=settings.two_argmax)
    raise ValueError(
        f"Panoptic programs merge masks by PanopticMerger, MaskwiseMerger or TwoArgmaxMerger; "
        f"MODEL.MASK_FORMER.TEST.PANOPTIC_RULE is {name}. Choose other results, such as logits, or another rule."
    )


def _areas(owner: Tensor, counted: Tensor, num_queries: int) -> Tensor:
    """Count the pixels of each query, int64 [Q], where ``counted``, bool [H, W]."""
    nothing = torch.zeros(num_queries, dtype=torch.int64, device=owner.device)
    return nothing.scatter_add(0, owner.flatten(), counted.flatten().long())


def _numbered(
    owner: Tensor, inside: Tensor, valid: Tensor, classes: Tensor, scores: Tensor, is_thing: Tensor
) -> Panoptic:
    """Number segments from 1 in the order of their queries; stuff of one class becomes one, of its first query.

    Args:
        owner: int64 [H, W], each pixel's query.
        inside: bool [H, W]; other pixels belong to nobody.
        valid: bool [Q], the queries that have a segment.
        classes, scores: of each query; classes may be K, "no object", where it is not valid.
    """
    queries = torch.arange(len(valid), device=owner.device)
    stuff = valid & ~is_thing[classes.clamp(max=len(is_thing) - 1)]
    alike = (classes[:, None] == classes) & stuff
    leader = torch.where(stuff, alike.int().argmax(1), queries)
    leads = valid & (leader == queries)
    ids = leads.long().cumsum(0)
    segment_of = torch.where(valid, ids[leader], 0)
    place = torch.where(leads, ids - 1, len(queries))  # others write to a last place, which is cut off
    table = torch.full((len(queries) + 1,), -1, device=owner.device).scatter(0, place, classes)[:-1]
    table_scores = torch.zeros(len(queries) + 1, device=owner.device).scatter(0, place, scores)[:-1]
    return (segment_of[owner] * inside).int(), table, table_scores
