"""The form of semantic results that an evaluator accepts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator

from mask2former.labels import semantic_labels


def accepts_label_maps(evaluator: DatasetEvaluator) -> bool:
    """Tell whether an evaluator accepts ``sem_seg_labels`` [H, W] in place of ``sem_seg`` scores [K, H, W].

    True if its own class sets the attribute ``accepts_label_maps``. An inherited attribute does not count, because the
    class may have overridden ``process``.
    """
    return "accepts_label_maps" in vars(type(evaluator)) and bool(getattr(evaluator, "accepts_label_maps", False))


def predicted_labels(output: Mapping[str, Any]) -> np.ndarray:
    """Return the labels, integers [H, W], of a model's output; see :func:`mask2former.labels.semantic_labels`.

    Raises:
        ValueError: ``sem_seg`` is not [K, H, W], or holds NaN, which would pass for the best score.
    """
    labels: np.ndarray = semantic_labels(output, refuse_nan=True).cpu().numpy()
    return labels
