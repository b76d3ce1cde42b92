"""Long sequences, computed some positions at a time where each position is computed by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Positions at a time, by device. What is between two layers then stays in a CPU's cache; a GPU is busy with no less,
# as far as can be told without having measured it.
CHUNK_SIZE = {"cpu": 1024}
DEFAULT_CHUNK_SIZE = 16384


def chunk_size(x: Tensor) -> int:
    """Give the number of positions that are computed at a time on the device of ``x``."""
    return CHUNK_SIZE.get(x.device.type, DEFAULT_CHUNK_SIZE)


def needs_chunking(x: Tensor) -> bool:
    """Tell whether x [B, S, C] makes several chunks. Never while compiling: each number of chunks would be a graph."""
    return not torch.compiler.is_compiling() and x.shape[1] > chunk_size(x)


def chunked(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Compute ``function`` of tensors [B, S, C] (B may be 1), some of the S positions at a time, without gradients.

    What the function has inside is never there for all positions at once.
    """
    x = tensors[0]
    parts = zip(*(t.split(chunk_size(t), dim=1) for t in tensors), strict=True)
    first = function(*next(parts))  # tells channels and dtype; so chunks and whole are never there both
    result = first.new_empty(first.shape[0], x.shape[1], first.shape[2])
    places = iter(result.split(chunk_size(x), dim=1))
    next(places).copy_(first)
    for place, part in zip(places, parts, strict=True):
        place.copy_(function(*part))
    return result
