"""Read COCO's run-length masks (RLE), and check every length.

pycocotools silently leaves pixels uninitialised if the runs end early; here that is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_BYTES_OF_A_RUN = 7  # 5 bits each: more than any image needs


def object_runs(rle: Mapping[str, Any], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return where a mask's pixels lie.

    Args:
        rle: ``{"size": [H, W], "counts": ...}``; counts are a list of run lengths, or text or bytes when compressed.
        size: (H, W) that the mask must have.

    Returns:
        Starts and exclusive ends, [R] int64, of the object's runs, as places x * H + y (column by column, as COCO
        counts); they ascend, and no run is empty.

    Raises:
        ValueError: the mask has another size, or its runs do not fill it.
    """
    found, counts = rle.get("size"), rle.get("counts")
    # A text is refused, since list() would take it apart; floats without a fraction equal the integers they stand for.
    if not isinstance(found, list | tuple | np.ndarray) or list(found) != list(size):
        raise ValueError(f"the mask's size (height, width) is {found!r:.80}, but the image's is {list(size)}")
    if isinstance(counts, str):
        counts = counts.encode("ascii", errors="replace")
    if not isinstance(counts, (bytes, list, tuple, np.ndarray)):
        raise ValueError(f"the mask's counts are {type(counts).__name__}; they have to be a list, a string or bytes")
    runs = _decompress(counts) if isinstance(counts, bytes) else _whole(counts)
    height, width = size
    # Each run is checked too: huge ones could overflow to the right sum.
    if runs.ndim != 1 or (runs < 0).any() or (runs > height * width).any() or runs.sum() != height * width:
        raise ValueError(f"the mask's run lengths add up to {runs.sum()} pixels, not to {height} x {width}")

    # Runs of background and object alternate, background first.
    places = np.cumsum(runs)
    starts, ends = places[:-1:2], places[1::2]
    if len(starts) and not runs[1::2].all():
        filled = ends > starts
        return starts[filled], ends[filled]
    return starts, ends


def runs_of_mask(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of a mask [H, W] of numbers or bool, as :func:`object_runs` does; its pixels are those not 0."""
    line = np.zeros(mask.size + 2, bool)
    line[1:-1] = (mask.T != 0).ravel()
    changes = np.flatnonzero(line[1:] != line[:-1])
    return changes[::2], changes[1::2]


def _whole(counts: Any) -> np.ndarray:
    """Convert a list of whole numbers to int64; floats without a fraction are accepted."""
    try:
        runs = np.asarray(counts) if len(counts) else np.zeros(0, np.int64)
    except (ValueError, OverflowError):  # lists of different lengths
        runs = np.asarray("")
    if not (runs.dtype.kind in "iu" or (runs.dtype.kind == "f" and (runs == np.floor(runs)).all())):
        raise ValueError(f"the mask's counts are {str(counts)[:60]}; they have to be integers")
    return runs.astype(np.int64)


def _decompress(text: bytes) -> np.ndarray:
    """Decompress COCO's text: signed numbers of 5 bits a byte, low bits first; bit 5 is set if more bytes follow.

    From the fourth run on, a number is the difference from the run two before it.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(codes) == 0:
        return codes
    is_last = (codes & 0x20) == 0
    if (codes < 0).any() or (codes > 63).any() or not is_last[-1]:
        raise ValueError("the mask's counts are not COCO's compressed run lengths")
    last = np.flatnonzero(is_last)
    first = np.concatenate([[0], last[:-1] + 1])
    num_bytes = last - first + 1
    if num_bytes.max() > MAX_BYTES_OF_A_RUN:
        raise ValueError("the mask's counts hold a run longer than any image")
    place = np.arange(len(codes)) - np.repeat(first, num_bytes)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), first)
    values -= ((codes[last] & 0x10) > 0) * (np.int64(1) << (5 * num_bytes))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
