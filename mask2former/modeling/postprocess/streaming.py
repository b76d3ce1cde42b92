"""One pass over the masks for all results."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mask2former.modeling.postprocess.mask_source import MaskSource, ResizedMasks

_CHUNK = 16  # masks at a time, of sources that give whole ones only
# Mask pixels at a time and most rows. A CPU works in its cache: measured best on one with 2 MiB; more rows make the
# vertical resizing, a dense product, dearer. A GPU wants few large steps.
_PIXELS = {"cpu": 2**21, "cuda": 2**26}
_ROWS = {"cpu": 32, "cuda": 512}


class ResultAccumulator(Protocol):
    """A result that is put together from pieces of masks, which come in any order.

    Attributes:
        queries: [n] int64, ascending: whose masks it wants.
    """

    queries: Tensor

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        """Take ``logits`` [own, rows, W] of ``queries[own]``, and their sigmoid; neither may be changed."""

    def result(self) -> Any:
        """Once all pieces are there."""


def stream_masks(masks: MaskSource, accumulators: Sequence[ResultAccumulator], size: tuple[int, int]) -> None:
    """Give every accumulator its masks, at ``size`` (H, W); what several want is made once."""
    queries = accumulators[0].queries
    if len(accumulators) > 1:
        queries = torch.cat([accumulator.queries for accumulator in accumulators]).unique()
    # Where a accumulator's queries lie among all; None: they are all of them.
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
    """(queries, rows, mask logits of these)."""
    height, width = size
    if not isinstance(masks, ResizedMasks):
        for start in range(0, len(queries), _CHUNK):
            chunk = slice(start, min(start + _CHUNK, len(queries)))
            yield chunk, slice(0, height), masks(queries[chunk])
    elif len(queries):
        kind = "cpu" if queries.device.type == "cpu" else "cuda"
        step = max(1, min(_ROWS[kind], _PIXELS[kind] // (len(queries) * width)))
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            yield slice(0, len(queries)), rows, masks.rows(queries, rows.start, rows.stop)
