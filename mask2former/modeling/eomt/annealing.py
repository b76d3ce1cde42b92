"""Annealing of masked attention: block after block, queries come to see the whole image (EoMT, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Self

_POWER = 0.9


class MaskAnnealing(nn.Module):
    """For each block, the probability with which a query of an image keeps its attention mask.

    It is 1 until ``start``, then falls as ``(1 - progress) ** 0.9``, and is 0 from ``end`` on.

    Args:
        start, end: iterations, for each block; none: blocks stay as they are.

    Attributes:
        probabilities: float32 [blocks], in the weights, because inference has to know them.
    """

    probabilities: Tensor

    def __init__(self, blocks: int, start: Sequence[int] = (), end: Sequence[int] = ()) -> None:
        super().__init__()
        if start or end:
            wrong = len(start) != blocks or len(end) != blocks
            if wrong or any(first >= last for first, last in zip(start, end, strict=True)):
                raise ValueError(
                    f"MODEL.EOMT.ANNEAL_START is {list(start)} and ANNEAL_END {list(end)}; they need an iteration for "
                    f"each of the {blocks} blocks of MODEL.EOMT.NUM_BLOCKS, and every end after its start."
                )
        self.start, self.end = tuple(start), tuple(end)
        self.register_buffer("probabilities", torch.ones(blocks))
        self._known = (1.0,) * blocks
        self._note()
        self.register_load_state_dict_post_hook(_read)

    def values(self) -> tuple[float, ...]:
        """Return the probabilities. The buffer is read only after it has changed, because reading waits for a GPU.

        Without values (the device "meta"), they are those of a trained model.
        """
        if self.probabilities.is_meta:
            return (0.0,) * len(self.probabilities)
        # A graph that is traced holds the values that are known before.
        if not torch.compiler.is_compiling() and self._seen != (id(self.probabilities), self.probabilities._version):
            self._known = tuple(self.probabilities.tolist())
            self._note()
        return self._known

    def _note(self) -> None:
        """Remember which state of which buffer is known: one that was moved is another, whose versions begin anew."""
        self._seen = id(self.probabilities), self.probabilities._version

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device or format, and forget what was read: another buffer may get the same ``id``."""
        super()._apply(function, recurse)
        self._seen = (0, -1)
        return self

    def set_iteration(self, iteration: int) -> None:
        """Set the probabilities of an iteration, counted from 0."""
        if not self.start:
            return
        values = tuple(
            (1 - min(max((iteration - first) / (last - first), 0.0), 1.0)) ** _POWER
            for first, last in zip(self.start, self.end, strict=True)
        )
        if values != self._known:
            self.probabilities.copy_(torch.tensor(values))
            self._known = values
            self._note()


def _read(annealing: MaskAnnealing, _: object) -> None:
    annealing.values()
