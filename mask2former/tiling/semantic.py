"""Joining of semantic results."""

from __future__ import annotations

import torch
from torch import Tensor

from mask2former.labels import argmax_labels
from mask2former.tiling.grid import Tile


class SemanticCanvas:
    """A map of scores, or of labels alone, onto which the cores of tiles are drawn.

    Args:
        size: (H, W).
        compact: keep labels instead of scores.
    """

    def __init__(self, size: tuple[int, int], compact: bool) -> None:
        self.size = size
        self.name = "sem_seg_labels" if compact else "sem_seg"
        self.map: Tensor | None = torch.zeros(size, dtype=torch.int16) if compact else None

    def add(self, tile: Tile, scores: Tensor) -> None:
        """Add scores [K, h, w], or labels [h, w], which need ``compact``.

        Raises:
            ValueError: labels without ``compact``.
        """
        if scores.dim() == 2 and self.name == "sem_seg":
            raise ValueError("TiledInference(compact=False) joins scores, but the model gives labels.")
        core = tile.core_of(scores)
        if self.name == "sem_seg_labels" and scores.dim() == 3:
            core = argmax_labels(core)
        elif self.map is None:
            self.map = scores.new_zeros(len(scores), *self.size, device="cpu")
        assert self.map is not None
        place = (..., *tile.core)
        self.map[place] = core.to(self.map.device)

    def result(self) -> Tensor:
        assert self.map is not None
        return self.map
