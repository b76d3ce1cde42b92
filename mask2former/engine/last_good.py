"""Save the state before a training diverged, beside the checkpoints."""

from __future__ import annotations

import os
from typing import Any


def save_last_good(trainer: Any) -> str:
    """Save the weights before the bad steps as model_last_good.pth; ``--resume`` still takes the last checkpoint.

    Args:
        trainer: a :class:`~mask2former.engine.trainer.Trainer` in the step that diverged.

    Returns:
        What to say about it.
    """
    if not all(parameter.isfinite().all() for parameter in trainer.model.parameters()):
        return "They are not finite either, so they are not saved: go on from an earlier checkpoint."
    saving = trainer.checkpointer
    tagged = saving.get_checkpoint_file() if saving.has_checkpoint() else ""
    trainer.iter -= 1  # the last iteration whose effect is in the weights
    saving.save("model_last_good")
    trainer.iter += 1
    if tagged:  # the update before the bad steps may be what spoiled the weights
        saving.tag_last_checkpoint(os.path.basename(tagged))
    said = f"They are saved as model_last_good.pth in {saving.save_dir}"
    return f"{said}; --resume goes on from {os.path.basename(tagged)}." if tagged else f"{said}."
