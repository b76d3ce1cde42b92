"""Class labels from class scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 16  # pixels from which on classes are compared one after the other, which is how they lie in memory
_PIXELS = 8192  # pixels at a time, about: their scores for all classes stay in a core's cache
_MOST = 255  # classes that fit in a byte, beside 0 for "none"
_NAN = "predicted semantic scores are not numbers (NaN). Has the training diverged?"


def argmax_labels(scores: Tensor, *, refuse_nan: bool = False) -> Tensor:
    """Return the class with the greatest score at each pixel, the first one of equals. NaN beats every number.

    On a CPU it takes a fifth to a half of the time of ``scores.max(0)``, whose search for the index is not vectorised:
    here the maximum is found first, then its index.

    Args:
        scores: [K, H, W].
        refuse_nan: accept no NaN. On a CPU this costs nothing, since the maximum tells.

    Returns:
        int16 [H, W], on the scores' device.

    Raises:
        ValueError: there is a NaN, and ``refuse_nan`` is set.
    """
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64) or len(scores) > _MOST:
        if refuse_nan and bool(scores.isnan().any()):
            raise ValueError(_NAN)
        return scores.max(dim=0).indices.short()
    classes, height, width = scores.shape
    planes = scores.detach().numpy()
    labels = np.empty((height, width), np.int16)
    codes = _codes_class_by_class(planes) if height * width >= _LARGE else _codes_by_bands(planes)
    np.subtract(np.int16(classes), codes, out=labels)
    result = torch.from_numpy(labels)
    unknown = result == classes
    if unknown.any():  # a NaN equals nothing
        if refuse_nan:
            raise ValueError(_NAN)
        result[unknown] = scores[:, unknown].max(dim=0).indices.short()
    return result


# Codes are K - k for class k, so that their maximum is of the first class that has the greatest score; 0: none has it,
# since a NaN equals nothing.


def _codes_class_by_class(planes: np.ndarray) -> np.ndarray:
    """Return codes uint8 [H, W] of scores [K, H, W]."""
    best = planes.max(axis=0)
    codes = np.zeros(best.shape, np.uint8)
    found = np.empty(best.shape, bool)
    code = found.view(np.uint8)
    for index, plane in enumerate(planes):
        np.equal(plane, best, out=found)
        np.multiply(code, np.uint8(len(planes) - index), out=code)
        np.maximum(codes, code, out=codes)
    return codes


def _codes_by_bands(planes: np.ndarray) -> np.ndarray:
    """Return the same codes; in fewer steps, of which each has some rows of all classes."""
    classes, height, width = planes.shape
    codes = np.empty((height, width), np.uint8)
    code_of = np.arange(classes, 0, -1, dtype=np.uint8)[:, None, None]
    rows = max(1, _PIXELS // max(1, width))
    found = np.empty((classes, rows, width), bool)
    for start in range(0, height, rows):
        band = planes[:, start : start + rows]
        where = found[:, : band.shape[1]]
        np.equal(band, band.max(axis=0), out=where)
        coded = where.view(np.uint8)
        np.multiply(coded, code_of, out=coded)
        coded.max(axis=0, out=codes[start : start + rows])
    return codes


def semantic_labels(output: Mapping[str, Any], *, refuse_nan: bool = False) -> Tensor:
    """Return the labels, integers [H, W], of a model's output: ``sem_seg_labels``, or the best classes of ``sem_seg``.

    Raises:
        ValueError: ``sem_seg`` is not [K, H, W], or holds NaN, and ``refuse_nan`` is set.
    """
    if "sem_seg_labels" in output:
        return output["sem_seg_labels"]
    scores = output["sem_seg"]
    if scores.dim() != 3:
        raise ValueError(
            f"`sem_seg` holds scores [K, H, W], found {list(scores.shape)}; labels go under `sem_seg_labels`."
        )
    return argmax_labels(scores, refuse_nan=refuse_nan)
