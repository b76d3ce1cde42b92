"""Save the state before a training diverged, beside the checkpoints."""

from __future__ import annotations

import os
from typing import Any

from detectron2.utils import comm

from mask2former.checkpoint.sharded import local


def save_last_good(trainer: Any) -> str:
    """Save the weights before the bad steps as model_last_good.pth; ``--resume`` still takes the last checkpoint.

    Args:
        trainer: a :class:`~mask2former.engine.trainer.Trainer` in the step that diverged.

    Returns:
        What to say about it.
    """
    # Of a sharded model, each process knows its own part.
    if not all(comm.all_gather(all(local(one).isfinite().all().item() for one in trainer.model.parameters()))):
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
