"""Save a checkpoint before an evaluation that cannot be stopped half-way."""

from __future__ import annotations

from typing import Any

from detectron2.engine import HookBase

NAME = "model_before_evaluation"


class SaveBeforeEvaluation(HookBase):
    """Save what was trained before an evaluation in the middle of a training, on the main process.

    Several processes finish an evaluation when a signal comes: their shares of the images differ in number, so there is
    no image after which all could agree to stop. A scheduler that does not wait for that kills them; then training
    goes on from here. The file is written anew each time.

    Args:
        checkpointer: of the training; all that goes into its checkpoints is saved.
        period: iterations between two evaluations; 0: none before the end, when a checkpoint is written anyway.
    """

    def __init__(self, checkpointer: Any, period: int) -> None:
        self.checkpointer = checkpointer
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period < 1 or done % self.period or done >= self.trainer.max_iter:
            return
        if getattr(self.checkpointer, "saved", "") != f"model_{self.trainer.iter:07d}.pth":  # by Detectron2's hook
            self.checkpointer.save(NAME)
