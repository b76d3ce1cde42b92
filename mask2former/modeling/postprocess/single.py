"""Single kinds of results, from any source of masks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from detectron2.structures import Instances
from torch import Tensor

from mask2former.modeling.postprocess.instance import InstanceAccumulator
from mask2former.modeling.postprocess.mask_source import MaskSource
from mask2former.modeling.postprocess.panoptic import PanopticMerger
from mask2former.modeling.postprocess.semantic import SemanticScores
from mask2former.modeling.postprocess.streaming import stream_masks


def semantic_inference(class_logits: Tensor, masks: MaskSource, size: tuple[int, int]) -> Tensor:
    """Compute scores [K, H, W] float32; their argmax over K is the segmentation. See :class:`SemanticScores`."""
    scores = SemanticScores(class_logits, size)
    stream_masks(masks, [scores], size)
    return scores.result()


def panoptic_inference(
    class_logits: Tensor,
    masks: MaskSource,
    *,
    things: Collection[int],
    object_mask_threshold: float,
    overlap_threshold: float,
    size: tuple[int, int],
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Compute segment ids, int32 [H, W], 0 for none, and the segments. See :class:`PanopticMerger`."""
    merger = PanopticMerger(
        class_logits,
        things=things,
        object_mask_threshold=object_mask_threshold,
        overlap_threshold=overlap_threshold,
        size=size,
    )
    stream_masks(masks, [merger], size)
    return merger.result()


def instance_inference(
    class_logits: Tensor,
    masks: MaskSource,
    *,
    top_k: int,
    things: Collection[int] | None,
    size: tuple[int, int],
) -> Instances:
    """Return instances of the ``top_k`` most probable (query, class) pairs. See :class:`InstanceAccumulator`."""
    instances = InstanceAccumulator(class_logits, top_k=top_k, things=things, size=size)
    stream_masks(masks, [instances], size)
    return instances.result()
