"""Split two label images into runs of pixels that are constant in both; there are few, so counting is fast."""

from __future__ import annotations

import numpy as np


def pair_runs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and lengths, both int64 [R], of the runs in which neither of two lines [N] changes."""
    change = np.ones(one.size + 1, bool)  # also before the first pixel and after the last
    inner = change[1:-1]
    np.not_equal(one[1:], one[:-1], out=inner)
    inner |= other[1:] != other[:-1]
    places = np.flatnonzero(change)
    return places[:-1], places[1:] - places[:-1]
