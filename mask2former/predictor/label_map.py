"""Draw a result as a map of numbers."""

from __future__ import annotations

import numpy as np

from mask2former.predictor.arrays import ResultArrays


def label_map(result: ResultArrays, task: str) -> np.ndarray:
    """Return a number for each pixel, [H, W] uint8 or uint16; see :meth:`mask2former.predictor.Result.label_map`."""
    if task == "instance":
        numbers = np.zeros(result.image.shape[:2], np.int32)
        for index in reversed(range(len(result.instances))):
            numbers[result.instances.masks[index]] = index + 1
    else:
        numbers = result.panoptic if task == "panoptic" else result.semantic
    most = 254 if numbers.min(initial=0) < 0 else 255  # VOID, -1, becomes the greatest number
    return numbers.astype(np.uint8 if numbers.max(initial=0) <= most else np.uint16)
