"""Running statistics of normalisation layers, which change in the forward pass, so that a bad step spoils them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class RunningStatistics:
    """Keep a copy of a model's running statistics, to take a step back.

    Args:
        model: its layers with ``running_mean`` are batch normalisation of any kind; frozen ones never change.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._buffers: list[Tensor] | None = None
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Copy what may change: one copy for each number format, whatever the number of layers."""
        if self._buffers is None:
            self._buffers = sorted(self._changing(), key=lambda buffer: str(buffer.dtype))
        dtypes = {buffer.dtype: None for buffer in self._buffers}
        self._kept = [torch.cat([one.flatten() for one in self._buffers if one.dtype == dtype]) for dtype in dtypes]

    def restore(self) -> None:
        """Put the copies back."""
        if not self._buffers:
            return
        flat = [piece for kept in self._kept for piece in self._split(kept)]
        for buffer, value in zip(self._buffers, flat, strict=True):
            buffer.copy_(value.view_as(buffer))

    def _split(self, kept: Tensor) -> tuple[Tensor, ...]:
        assert self._buffers is not None
        return kept.split([buffer.numel() for buffer in self._buffers if buffer.dtype == kept.dtype])

    def _changing(self) -> Iterator[Tensor]:
        for module in self._model.modules():
            # Frozen normalisation has statistics too, but no momentum with which to change them.
            changes = module.training and hasattr(module, "momentum")
            if changes and isinstance(getattr(module, "running_mean", None), Tensor):
                yield from module.buffers(recurse=False)
