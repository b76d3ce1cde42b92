"""Panoptic quality of semantic predictions, for models that predict only classes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic_form import predicted_labels


class SemanticPanopticEvaluator(PanopticEvaluator):
    """Score the PQ of a semantic prediction's segments (see :func:`segments_of`), as "panoptic_seg_semantic".

    It shows how much panoptic quality is possible without telling objects apart: things that touch count as one.
    Predicted classes must be those of the data set's panoptic numbering.

    Args:
        dataset_name: a registered panoptic data set.
        output_dir: where the predictions are written; None: nowhere.
    """

    accepts_label_maps = True

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Compare images by the argmax of ``sem_seg`` scores [K, H, W] or by ``sem_seg_labels`` [H, W]."""
        things = self._thing_contiguous_id_to_dataset_id
        made = []
        for one, output in zip(inputs, outputs, strict=True):
            try:
                labels = predicted_labels(output)
            except ValueError as error:
                raise ValueError(f"{one['file_name']}: {error}") from error
            ids, segments = segments_of(labels, things)
            made.append({"panoptic_seg": (torch.from_numpy(ids), segments)})
        super().process(inputs, made)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        results = super().evaluate()
        return results and {f"{task}_semantic": scores for task, scores in results.items()}


def segments_of(labels: np.ndarray, things: Collection[int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Make segments from a map of classes.

    All pixels of a stuff class are one segment, as in panoptic ground truth. Of a thing class, each connected part
    (pixels that touch by an edge or a corner) is one.

    Args:
        labels: [H, W] integers, classes.
        things: classes of countable objects.

    Returns:
        Segment ids from 1, int32 [H, W], and for each segment its ``id``, ``isthing`` and ``category_id``.
    """
    ids = np.zeros(labels.shape, np.int32)
    segments: list[dict[str, Any]] = []
    for category in np.unique(labels).tolist():
        mask = labels == category
        is_thing = category in things
        count = 1
        parts = mask.astype(np.int32)
        if is_thing:
            count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            count -= 1  # the background
        ids[mask] = parts[mask] + len(segments)
        segments += [
            {"id": len(segments) + i, "isthing": is_thing, "category_id": category} for i in range(1, count + 1)
        ]
    return ids, segments
