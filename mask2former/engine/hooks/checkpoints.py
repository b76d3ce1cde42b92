"""Save checkpoints to go on from, and at the end the weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine.hooks import PeriodicCheckpointer
from torch import nn

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer


class CheckpointHook(PeriodicCheckpointer):
    """Save ``model_0000499.pth`` and so on, from which a training goes on, and at the end ``model_final.pth``.

    The last one is for use: it holds the weights alone, a third of the bytes. The whole state is saved then too, so
    that a finished training can go on for more iterations.

    Args:
        checkpointer: saves the training's state.
        period: iterations between two checkpoints.
        final: the model whose weights are the training's result.
        keep: number of the newest numbered checkpoints to keep; 0: all. Only those are removed that this training has
            written, before an interruption too.
    """

    def __init__(self, checkpointer: MaskFormerCheckpointer, period: int, *, final: nn.Module, keep: int = 0) -> None:
        if keep < 0:
            raise ValueError(f"SOLVER.KEEP is {keep}; it has to be a number of checkpoints, or 0 to keep all.")
        super().__init__(checkpointer, period)
        self._final = final
        self._keep = keep
        self._written: list[str] = []  # oldest first

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter:
            self._note(self._name(self.trainer.start_iter - 1))  # a signal may have had it written

    def step(self, iteration: int, **kwargs: object) -> None:
        last = iteration >= self.trainer.max_iter - 1
        if (iteration + 1) % self.period == 0 or last:
            self.save(self._name(iteration), iteration=iteration, **kwargs)
        if last:
            self.checkpointer.save_weights(f"{self.file_prefix}_final", self._final)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save a checkpoint unless it has just been saved; then remove those that are not to be kept."""
        if self.checkpointer.saved == f"{name}.pth":
            return
        self._note(name)
        self.checkpointer.save(name, **kwargs)
        while 0 < self._keep < len(self._written):
            old = Path(self.checkpointer.save_dir, f"{self._written.pop(0)}.pth")
            if self.checkpointer.save_to_disk:
                old.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"written": list(self._written)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._written = list(state_dict["written"])

    def _name(self, iteration: int) -> str:
        return f"{self.file_prefix}_{iteration:07d}"

    def _note(self, name: str) -> None:
        self._written = [*(one for one in self._written if one != name), name]
