"""Split two label images into runs of pixels that are constant in both; there are few, so counting is fast."""

from __future__ import annotations

import numpy as np


def pair_runs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and lengths, both int64 [R], of the runs in which neither of two lines [N] changes."""
    change = one[1:] != one[:-1]
    change |= other[1:] != other[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])[: one.size]
    return starts, np.diff(starts, append=one.size)
