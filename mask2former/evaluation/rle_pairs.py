"""Two images of numbers as runs of pixels: numbers hardly change from pixel to pixel, so there are few."""

from __future__ import annotations

import numpy as np


def pair_runs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where one of two lines [N] changes, and the number of pixels until one of them changes again: int64 [R] both."""
    change = one[1:] != one[:-1]
    change |= other[1:] != other[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])[: one.size]
    return starts, np.diff(starts, append=one.size)
