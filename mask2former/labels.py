"""From scores of classes to labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_PIXELS = 4096  # of all classes at a time: they stay in a core's cache
_MOST = 255  # classes that a byte tells apart, and 0 for none


def labels_of(scores: Tensor) -> Tensor:
    """For each pixel the class of the greatest score; of equal ones the first. A NaN is greater than all numbers.

    On a CPU it takes a fifth to a half of the time of ``scores.max(0)``, whose search for the place is not vectorised:
    here the maximum is found first, and then where it is.

    Args:
        scores: [K, H, W]; or labels [H, W], which are given back as they are: a model may give either as ``sem_seg``.

    Returns:
        int16 [H, W], on the scores' device.
    """
    if scores.dim() == 2:
        return scores
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64) or len(scores) > _MOST:
        return scores.max(dim=0).indices.short()
    classes, height, width = scores.shape
    columns = scores.detach().numpy().reshape(classes, -1)
    labels = np.empty(height * width, np.int16)
    # The first of the classes that are the greatest has the greatest code; no class: 0.
    codes = np.arange(classes, 0, -1, dtype=np.uint8)[:, None]
    found = np.empty((classes, _PIXELS), bool)
    for start in range(0, height * width, _PIXELS):
        part = columns[:, start : start + _PIXELS]
        where = found[:, : part.shape[1]]
        np.equal(part, part.max(axis=0), out=where)
        coded = where.view(np.uint8)
        np.multiply(coded, codes, out=coded)
        np.subtract(np.int16(classes), coded.max(axis=0), out=labels[start : start + _PIXELS])
    result = torch.from_numpy(labels).view(height, width)
    unknown = result == classes
    if unknown.any():  # a NaN equals nothing
        result[unknown] = scores[:, unknown].max(dim=0).indices.short()
    return result
