"""Count the pixels of an image by predicted and true class, and those along boundaries."""

from __future__ import annotations

import numpy as np

from mask2former.evaluation.boundary import boundary_width, label_boundary
from mask2former.evaluation.rle_pairs import pair_runs


def confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int, ignore_label: int) -> np.ndarray:
    """Count pixels by predicted and true class.

    Args:
        predicted: [H, W], classes in [0, K).
        truth: [H, W], classes in [0, K) or ``ignore_label``.
        num_classes: K.
        ignore_label: label of pixels that do not count.

    Returns:
        [K, K] int64, predicted class by true class.

    Raises:
        ValueError: there is another label, or the sizes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"the prediction's (height, width) is {predicted.shape}, the ground truth's {truth.shape}")
    labels, true_labels, lengths = _runs(predicted, truth)
    counted = true_labels != ignore_label
    _check(
        true_labels[counted],
        num_classes,
        f"found the label {{}}, which is neither a class nor {ignore_label} (ignored)",
    )
    _check(labels, num_classes, "the model predicts the class {}, which the data set lacks")
    return _count(labels[counted], true_labels[counted], lengths[counted], num_classes)


def boundary_confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int, ignore_label: int) -> np.ndarray:
    """Count pixels by the boundary maps of prediction and ground truth, as Detectron2's main branch does.

    Both label maps, with ignored pixels of the truth as K, go through
    :func:`mask2former.evaluation.boundary.label_boundary`, and all pixels are counted, including those away from
    boundaries (0). Up to 15 classes these are the main branch's counts; with more, its sums overflow a byte (seen in
    its code of 2024), and these do not.

    Args:
        predicted, truth, num_classes, ignore_label: as for :func:`confusion`, which checks them; K < 255.

    Returns:
        [K + 1, K + 1] int64, values of the prediction's map by those of the ground truth's.
    """
    width = boundary_width(*truth.shape)
    known = np.where(truth == ignore_label, num_classes, truth)
    maps = [label_boundary(labels.astype(np.uint8), width) for labels in (predicted, known)]
    return _count(*_runs(*maps), num_classes + 1)


def _runs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return runs of pixels that are constant in both images: values of one, of the other, and lengths; int64 [R]."""
    a, b = one.ravel(), other.ravel()
    starts, lengths = pair_runs(a, b)
    return a[starts].astype(np.int64), b[starts].astype(np.int64), lengths


def _count(one: np.ndarray, other: np.ndarray, lengths: np.ndarray, values: int) -> np.ndarray:
    pairs = np.bincount(one * values + other, weights=lengths, minlength=values**2)
    return pairs.astype(np.int64).reshape(values, values)


def _check(labels: np.ndarray, num_classes: int, fault: str) -> None:
    strange = labels[(labels < 0) | (labels >= num_classes)]
    if len(strange):
        raise ValueError(f"{fault.format(strange[0])}; classes are 0 to {num_classes - 1}")
