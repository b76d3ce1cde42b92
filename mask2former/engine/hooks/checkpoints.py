"""Save checkpoints to go on from, and at the end the weights alone."""

from __future__ import annotations

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
    """

    def __init__(self, checkpointer: MaskFormerCheckpointer, period: int, *, final: nn.Module) -> None:
        super().__init__(checkpointer, period)
        self._final = final

    def step(self, iteration: int, **kwargs: object) -> None:
        last = iteration >= self.trainer.max_iter - 1
        if (iteration + 1) % self.period == 0 or last:
            self.checkpointer.save(f"{self.file_prefix}_{iteration:07d}", iteration=iteration, **kwargs)
        if last:
            self.checkpointer.save_weights(f"{self.file_prefix}_final", self._final)
