"""One pass over the masks for all results."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mask2former.modeling.postprocess.mask_source import MaskSource, ResizedMasks

_CHUNK = 16  # masks at a time, from sources that return whole masks only
# Mask pixels of a chunk, and its most rows. A CPU should stay in its cache: these were measured best on one with 2 MiB,
# and more rows make the vertical resizing, a dense product, slower. A GPU needs few large steps.
_PIXELS = {"cpu": 2**21, "cuda": 2**26}
_ROWS = {"cpu": 32, "cuda": 512}


class ResultAccumulator(Protocol):
    """A result that is built from chunks of masks, which come in any order.

    Attributes:
        queries: [n] int64, ascending: the queries whose masks it needs.
    """

    queries: Tensor

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        """Add ``logits`` [own, rows, W] of ``queries[own]``, and their sigmoid; neither may be changed in place."""

    def result(self) -> Any:
        """Return the result, once all chunks are added."""


def stream_masks(masks: MaskSource, accumulators: Sequence[ResultAccumulator], size: tuple[int, int]) -> None:
    """Pass every accumulator its masks, at ``size`` (H, W), computing each mask once."""
    queries = accumulators[0].queries
    if len(accumulators) > 1:
        queries = torch.cat([accumulator.queries for accumulator in accumulators]).unique()
    # Indices of an accumulator's queries among all; None: it needs all of them.
    places = [
        None if len(one.queries) == len(queries) else torch.searchsorted(queries, one.queries) for one in accumulators
    ]
    known = [None if place is None else place.tolist() for place in places]
    for chunk, rows, logits in _chunks(masks, queries, size):
        probability = logits.sigmoid()
        for accumulator, place, numbers in zip(accumulators, places, known, strict=True):
            if place is None or numbers is None:
                accumulator.add(chunk, rows, logits, probability)
                continue
            own = slice(bisect_left(numbers, chunk.start), bisect_left(numbers, chunk.stop))
            inside = place[own] - chunk.start
            accumulator.add(own, rows, logits[inside], probability[inside])


def _chunks(masks: MaskSource, queries: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (slice of ``queries``, rows, their mask logits)."""
    height, width = size
    if not isinstance(masks, ResizedMasks):
        for start in range(0, len(queries), _CHUNK):
            chunk = slice(start, min(start + _CHUNK, len(queries)))
            yield chunk, slice(0, height), masks(queries[chunk])
    elif len(queries):
        kind = "cpu" if queries.device.type == "cpu" else "cuda"
        # Masks that exclude each other are computed for all queries, whichever are wanted.
        count = masks.masks.num_queries if masks.masks.activation == "softmax" else len(queries)
        step = max(1, min(_ROWS[kind], _PIXELS[kind] // (count * width)))
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            yield slice(0, len(queries)), rows, masks.rows(queries, rows.start, rows.stop)
