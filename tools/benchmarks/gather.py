"""Measure how fast the machine gathers rows of a head's channels from a table that mostly fits in a cache."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from benchmarks.cases import CHANNELS, HEADS, POINTS, STRIDES, Case
from mask2former.measure.timing import Patience, take_turns

CORNERS = 4


def measure_gather(case: Case, device: torch.device, dtypes: Sequence[str], patience: Patience) -> dict[str, float]:
    """Return bytes read a second, by dtype, of PyTorch's faster way: looking rows up, or weighting and adding them.

    The table holds the values of a case, [B * S * heads, C], and as many rows are read as the operator reads pixels:
    at random, four for each sample. Adding them writes one row for each query and head, so nearly all time is reading.
    """
    pixels = sum(height * width for height, width in case.shapes)
    rows = case.batch * pixels * HEADS
    bag = len(STRIDES) * POINTS * CORNERS
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(rows, (rows, bag), generator=generator).to(device)
    work: dict[str, Callable[[], object]] = {}
    for name in dtypes:
        table = torch.randn(rows, CHANNELS, generator=generator).to(device, getattr(torch, name))
        weights = torch.full((rows, bag), 1 / bag, device=device, dtype=table.dtype)
        work[f"{name} add"] = functools.partial(F.embedding_bag, places, table, mode="sum", per_sample_weights=weights)
        work[f"{name} look up"] = functools.partial(torch.index_select, table, 0, places[: rows // 4].flatten())
    with torch.no_grad():
        times = take_turns(work, patience, device)
    read = rows * bag * CHANNELS
    return {
        name: max(read / times[f"{name} add", 1].fastest, read / 4 / times[f"{name} look up", 1].fastest)
        * getattr(torch, name).itemsize
        for name in dtypes
    }


def gathered(case: Case, training: bool) -> int:
    """Return the bytes of values that the operator reads, counting each pixel as often as a sample needs it.

    Training reads them twice, and adds a float32 gradient to each, which counts as its size.
    """
    pixels = sum(height * width for height, width in case.shapes)
    numbers = case.batch * pixels * HEADS * len(STRIDES) * POINTS * CORNERS * CHANNELS
    itemsize = getattr(torch, case.dtype).itemsize
    return numbers * (2 * itemsize + 4 if training else itemsize)
