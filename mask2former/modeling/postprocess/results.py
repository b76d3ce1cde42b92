"""Results of one image, as the settings choose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mask2former.labels import argmax_labels
from mask2former.modeling.postprocess.instance import InstanceAccumulator
from mask2former.modeling.postprocess.mask_source import MaskSource, ResizedMasks
from mask2former.modeling.postprocess.panoptic import PANOPTIC_RULE_REGISTRY
from mask2former.modeling.postprocess.semantic import SemanticLabels, SemanticScores
from mask2former.modeling.postprocess.settings import PostProcessing
from mask2former.modeling.postprocess.streaming import ResultAccumulator, stream_masks
from mask2former.structures import resize_frames


def post_process(class_logits: Tensor, masks: ResizedMasks, settings: PostProcessing) -> dict[str, Any]:
    """Compute the results of one image.

    They share one pass over the masks; semantic scores that are resized afterwards need a pass of their own.

    Args:
        class_logits: [Q, K + 1].
        masks: mask logits of the image.
        settings: results wanted, and their thresholds.

    Returns:
        The results switched on: ``sem_seg`` float32 [K, H, W] or ``sem_seg_labels`` int16 [H, W]; ``panoptic_seg``
        (int32 [H, W], segments); ``instances``.
    """
    if settings.semantic_on and not settings.resize_before_semantic:
        scores = semantic_scores(class_logits, masks, settings)
        semantic = {"sem_seg_labels": argmax_labels(scores)} if settings.semantic_labels else {"sem_seg": scores}
        return semantic | object_results(class_logits, masks, masks.size, settings)
    accumulators = _of_objects(class_logits, masks.size, settings)
    if settings.semantic_on and settings.semantic_labels:
        accumulators = {"sem_seg_labels": SemanticLabels(class_logits, masks.size), **accumulators}
    elif settings.semantic_on:
        accumulators = {"sem_seg": SemanticScores(class_logits, masks.size), **accumulators}
    return _run(masks, accumulators, masks.size)


def semantic_scores(class_logits: Tensor, masks: ResizedMasks, settings: PostProcessing) -> Tensor:
    """Compute semantic scores [K, H, W] float32 of one image, from class logits [Q, K + 1]."""
    before = settings.resize_before_semantic
    source = masks if before else replace(masks, output_size=None)
    accumulator = SemanticScores(class_logits, source.size)
    stream_masks(source, [accumulator], source.size)
    scores = accumulator.result()
    return scores if before else resize_frames(scores[None], masks.size, masks.masks.align_corners)[0]


def object_results(
    class_logits: Tensor, masks: MaskSource, size: tuple[int, int], settings: PostProcessing
) -> dict[str, Any]:
    """Compute ``panoptic_seg`` and ``instances`` of one image, if switched on.

    Args:
        class_logits: [Q, K + 1].
        masks: source of mask logits.
        size: (H, W) of the results.
        settings: results wanted, and their thresholds.
    """
    return _run(masks, _of_objects(class_logits, size, settings), size)


def _of_objects(class_logits: Tensor, size: tuple[int, int], settings: PostProcessing) -> dict[str, ResultAccumulator]:
    accumulators: dict[str, ResultAccumulator] = {}
    if settings.panoptic_on:
        rule = PANOPTIC_RULE_REGISTRY.get(settings.panoptic_rule)
        accumulators["panoptic_seg"] = rule.from_settings(class_logits, size, settings)
    if settings.instance_on:
        accumulators["instances"] = InstanceAccumulator(
            class_logits,
            top_k=settings.detections_per_image,
            things=settings.things if settings.panoptic_on else None,
            size=size,
            mask_threshold=settings.instance_mask_threshold,
        )
    return accumulators


def _run(masks: MaskSource, accumulators: Mapping[str, ResultAccumulator], size: tuple[int, int]) -> dict[str, Any]:
    if accumulators:
        stream_masks(masks, list(accumulators.values()), size)
    return {name: accumulator.result() for name, accumulator in accumulators.items()}
