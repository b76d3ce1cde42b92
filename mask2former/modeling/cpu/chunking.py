"""Functions of single positions, applied to a long sequence in chunks of positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Positions of a chunk, by device. Activations between two layers then stay in a CPU's cache. A GPU probably needs this
# many to be busy; that has not been measured.
CHUNK_SIZE = {"cpu": 1024}
DEFAULT_CHUNK_SIZE = 16384


def chunk_size(x: Tensor) -> int:
    """Return the number of positions of a chunk on the device of ``x``."""
    return CHUNK_SIZE.get(x.device.type, DEFAULT_CHUNK_SIZE)


def needs_chunking(x: Tensor) -> bool:
    """Tell whether x [B, S, C] makes several chunks; False while compiling, where each count would need a new graph."""
    return not torch.compiler.is_compiling() and x.shape[1] > chunk_size(x)


def chunked(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Apply ``function`` to tensors [B, S, C] (B may be 1), a chunk of the S positions at a time, without gradients.

    Its intermediate results never exist for all positions at once.
    """
    x = tensors[0]
    parts = zip(*(t.split(chunk_size(t), dim=1) for t in tensors), strict=True)
    first = function(*next(parts))  # gives channels and dtype, so that chunks go straight into the result, without cat
    result = first.new_empty(first.shape[0], x.shape[1], first.shape[2])
    places = iter(result.split(chunk_size(x), dim=1))
    next(places).copy_(first)
    for place, part in zip(places, parts, strict=True):
        place.copy_(function(*part))
    return result
