"""Parts of a network that compute in their inputs' own number format under mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context without mixed precision on the device of ``x``; the device "meta" has none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is in a wider format."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
