"""A training for submitit's processes: ``train`` takes the words of a command line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import resuming
import torch

from mask2former.engine.processes import find_place, joined


def train(words):
    """Train a tiny model; words: the folder of the data, the run's, and ``--resume`` before them or not.

    At iteration 5 all wait until the file ``go_on`` is in the run's folder.
    """
    data, folder = (Path(word) for word in words if not word.startswith("--"))
    torch.set_num_threads(1)
    resuming.register(data)
    place = find_place(os.environ)
    with joined(place, "cpu"):
        trainer = resuming.NotingTrainer(resuming.configuration(folder))
        trainer.resume_or_load(resume="--resume" in words)
        step = trainer.run_step

        def run_step():
            if trainer.iter == 5:
                (folder / f"waits{place.rank}").touch()
                while not (folder / "go_on").exists():
                    time.sleep(0.05)
            step()

        trainer.run_step = run_step
        (folder / f"start{place.rank}").write_text(json.dumps(trainer.start_iter))
        trainer.train()
        torch.save(resuming.state(trainer), folder / f"state{place.rank}.pth")
