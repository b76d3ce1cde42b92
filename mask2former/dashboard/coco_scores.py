"""COCO's average precision by class and precision-recall curves, taken from a finished evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SCORES = {"AP": (slice(None), 0), "AP50": (slice(0, 1), 0), "AP75": (slice(5, 6), 0)}
SIZES = {"APs": (slice(None), 1), "APm": (slice(None), 2), "APl": (slice(None), 3)}


def by_class(evaluation: Any, places: Mapping[int, int], num_classes: int) -> dict[str, np.ndarray]:
    """Return the average precision of each class, in [0, 1].

    Args:
        evaluation: accumulated evaluation of pycocotools or hotcoco, with COCO's thresholds and sizes.
        places: category id -> class; other categories are skipped.
        num_classes: K.

    Returns:
        {"AP", "AP50", "AP75", "APs", "APm", "APl"}: [K] float64; NaN for classes without ground truth (of that size).
    """
    precision = _precision(evaluation)
    result = {}
    for name, (thresholds, size) in {**SCORES, **SIZES}.items():
        values = np.full(num_classes, np.nan)
        for number, category in enumerate(_categories(evaluation)):
            if category in places:
                values[places[category]] = _mean(precision[thresholds, :, number, size])
        result[name] = values
    return result


def precision_recall(evaluation: Any) -> dict[str, np.ndarray]:
    """Return the precision at recalls 0, 0.01 ... 1, averaged over the classes.

    Returns:
        {"IoU 0.5", "IoU 0.75", "mean of IoU 0.5 to 0.95"}: [101] float64 in [0, 1]; empty without ground truth.
    """
    precision = _precision(evaluation)[:, :, :, 0]
    known = precision[0, 0] > -1
    if not known.any():
        return {}
    of_classes = precision[:, :, known].mean(2)
    return {"IoU 0.5": of_classes[0], "IoU 0.75": of_classes[5], "mean of IoU 0.5 to 0.95": of_classes.mean(0)}


def _precision(evaluation: Any) -> np.ndarray:
    """Return the precision [T, R, K, A] (IoU, recall, class, size) at the last limit of detections."""
    return np.asarray(evaluation.eval["precision"])[..., -1]


def _categories(evaluation: Any) -> list[int]:
    return sorted(evaluation.params.catIds)


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if len(known) else float("nan")
