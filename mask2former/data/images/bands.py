"""Go over large arrays by bands of rows, so that what is made of them does not take their memory once more."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_SMALL = 1 << 22  # bytes that are no matter
_BANDS = 16


def from_below(pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) of bands of ``pixels`` [H, ...], the lowest first.

    The memory of a band is released when the next is asked for, if it belongs to the array, which is of no use
    afterwards: nothing else may refer to it.
    """
    rows = len(pixels) if pixels.nbytes <= _SMALL else -(-len(pixels) // _BANDS)
    for top in reversed(range(0, len(pixels), max(rows, 1))):
        yield top, pixels[top:]
        if pixels.flags.owndata:
            pixels.resize((top, *pixels.shape[1:]), refcheck=False)
        else:
            pixels = pixels[:top]
