"""From one image's (class distribution, mask) pairs to semantic, panoptic and instance results.

Pure functions. They choose queries and classes first and ask for the masks of those alone, a few at a time, so no
result ever holds Q masks at full size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from mask2former.structures import LazyMasks, resize_frames

MaskSource = Callable[[Tensor], Tensor]
"""Query indices [n] int64 -> mask logits [n, H, W] at the size of the result."""

_CHUNK = 16  # masks resized at a time


@dataclass
class ResizedMasks:
    """Mask logits of one image of a batch, brought to the size that is wanted.

    As in the published system the masks are resized to the padded input, cropped to the picture and resized again,
    all bilinearly. Callable as a :data:`MaskSource`.

    Attributes:
        masks: of the whole batch, T = 1.
        image: index in the batch.
        padded_size: (H, W) of the padded batch.
        image_size: (H, W) of the picture in it.
        output_size: (H, W) wanted; None leaves it at the size of the picture in the batch.
    """

    masks: LazyMasks
    image: int
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int] | None

    @property
    def frame(self) -> tuple[int, int]:
        """(H, W) of the masks that are given."""
        return self.output_size or self.image_size

    def __call__(self, queries: Tensor) -> Tensor:
        logits = self.masks.logits(self.image, queries).float()
        height, width = self.image_size
        cropped = resize_frames(logits, self.padded_size)[..., :height, :width]
        return resize_frames(cropped, self.frame)[:, 0]


def semantic_inference(class_logits: Tensor, masks: MaskSource) -> Tensor:
    """Sum over queries of class probability times mask probability (MaskFormer, arXiv 2107.06278, section 3.4).

    Args:
        class_logits: [Q, K + 1].
        masks: mask logits.

    Returns:
        [K, H, W] float32 scores; their argmax over K is the segmentation.
    """
    probability = class_logits.float().softmax(-1)[:, :-1]
    scores: Tensor | None = None
    for queries in torch.arange(len(probability), device=probability.device).split(_CHUNK):
        part = torch.einsum("qk,qhw->khw", probability[queries], masks(queries).sigmoid())
        scores = part if scores is None else scores.add_(part)
    if scores is None:
        raise ValueError("semantic_inference: there are no queries.")
    return scores


def panoptic_inference(
    class_logits: Tensor,
    masks: MaskSource,
    *,
    things: Collection[int],
    object_mask_threshold: float,
    overlap_threshold: float,
    size: tuple[int, int],
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Give every pixel to the query of the greatest score times mask probability (MaskFormer, section 3.4).

    Queries count whose best class is an object with a score above ``object_mask_threshold``. A segment is the part
    of its own mask (probability >= 0.5) that a query wins. It is dropped when the query wins less than
    ``overlap_threshold`` of what its mask covers. Segments of one stuff class become one.

    Args:
        class_logits: [Q, K + 1].
        masks: mask logits.
        things: classes in [0, K) whose segments stay apart.
        size: (H, W) of the result.

    Returns:
        int32 [H, W] of segment ids, 0 where there is none, and for each segment its ``id``, ``isthing`` and
        ``category_id`` in [0, K).
    """
    scores, classes = class_logits.float().softmax(-1).max(-1)
    kept = ((classes != class_logits.shape[-1] - 1) & (scores > object_mask_threshold)).nonzero().flatten()
    owner, inside, areas = _compete(kept, scores[kept], masks, size)

    count = len(kept)
    won = torch.bincount(owner.flatten() + 1, minlength=count + 1)[1:]
    drawn = torch.bincount(owner[inside], minlength=count)
    table = torch.stack([classes[kept], areas, won, drawn]).tolist()  # one copy from the device

    segments: list[dict[str, Any]] = []
    stuff: dict[int, int] = {}
    segment_of = [0] * count
    for index, (category, area, won_pixels, drawn_pixels) in enumerate(zip(*table, strict=True)):
        if drawn_pixels == 0 or won_pixels / area < overlap_threshold:
            continue
        is_thing = category in things
        if not is_thing and category in stuff:
            segment_of[index] = stuff[category]
            continue
        segment_of[index] = len(segments) + 1
        segments.append({"id": segment_of[index], "isthing": is_thing, "category_id": category})
        if not is_thing:
            stuff[category] = segment_of[index]
    # Owner -1 (no query at all) reads the last entry.
    lookup = torch.tensor([*segment_of, 0], dtype=torch.int32, device=owner.device)
    return lookup[owner] * inside, segments


def _compete(
    queries: Tensor, scores: Tensor, masks: MaskSource, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Which query wins each pixel.

    Returns:
        [H, W] int64 index into ``queries`` (-1 where there is none), [H, W] bool whether the pixel lies in the
        winner's own mask, and [n] int64 areas of the masks in pixels.
    """
    device = scores.device
    owner = torch.full(size, -1, device=device)
    best = torch.full(size, -1.0, device=device)
    inside = torch.zeros(size, dtype=torch.bool, device=device)
    areas = [torch.zeros(0, dtype=torch.int64, device=device)]
    for start in range(0, len(queries), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        probability = masks(queries[chunk]).sigmoid()
        covered = probability >= 0.5
        areas.append(covered.flatten(1).sum(1))
        value, winner = (scores[chunk, None, None] * probability).max(0)
        better = value > best
        best = torch.where(better, value, best)
        owner = torch.where(better, winner + start, owner)
        inside = torch.where(better, covered.gather(0, winner[None])[0], inside)
    return owner, inside, torch.cat(areas)


def instance_inference(
    class_logits: Tensor,
    masks: MaskSource,
    *,
    top_k: int,
    things: Collection[int] | None,
    size: tuple[int, int],
) -> Instances:
    """The ``top_k`` best of all (query, class) pairs, each scored by class and mask (Mask2Former, appendix B).

    score = class probability * mean mask probability inside the mask.

    Args:
        class_logits: [Q, K + 1].
        masks: mask logits.
        top_k: instances wanted; fewer are given when there are fewer pairs.
        things: keep these classes alone; None keeps all.
        size: (H, W) of the result.

    Returns:
        Instances with ``pred_masks`` bool [n, H, W], ``pred_boxes`` around them in pixels, ``scores`` and
        ``pred_classes``, in no particular order.
    """
    num_classes = class_logits.shape[-1] - 1
    probability = class_logits.float().softmax(-1)[:, :-1].flatten()
    scores, pairs = probability.topk(min(top_k, len(probability)), sorted=False)
    queries, classes = pairs // num_classes, pairs % num_classes
    if things is not None:
        is_thing = torch.isin(classes, torch.tensor(sorted(things), dtype=classes.dtype, device=classes.device))
        scores, queries, classes = scores[is_thing], queries[is_thing], classes[is_thing]

    # Several pairs may share a query: its mask is resized once.
    distinct, place = queries.unique(return_inverse=True)
    binary = torch.zeros((len(distinct), *size), dtype=torch.bool, device=scores.device)
    quality = torch.zeros(len(distinct), device=scores.device)
    for start in range(0, len(distinct), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        logits = masks(distinct[chunk])
        binary[chunk] = logits > 0
        inside = binary[chunk].flatten(1)
        quality[chunk] = (logits.flatten(1).sigmoid() * inside).sum(1) / (inside.sum(1) + 1e-6)

    result = Instances(size)
    result.pred_masks = binary[place]
    result.pred_boxes = Boxes(_bounding_boxes(binary)[place])
    result.scores = scores * quality[place]
    result.pred_classes = classes
    return result


def _bounding_boxes(masks: Tensor) -> Tensor:
    """float32 [n, 4] (x0, y0, x1, y1) in pixels, right and bottom exclusive, around bool masks [n, H, W]; zeros where
    a mask is empty. Detectron2's own goes mask by mask and waits for the device at each.
    """
    ends = []
    for occupied in (masks.any(dim=1), masks.any(dim=2)):  # columns, rows
        first = occupied.int().argmax(dim=1)
        last = occupied.shape[1] - occupied.flip(1).int().argmax(dim=1)
        ends.append((first, last))
    (left, right), (top, bottom) = ends
    boxes = torch.stack([left, top, right, bottom], dim=1)
    return (boxes * masks.flatten(1).any(dim=1, keepdim=True)).float()
