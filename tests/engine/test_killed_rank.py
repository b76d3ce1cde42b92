"""One of two processes is killed: the other ends, saying what to do, and the next run goes on."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from forked import start_python
from torture import TORTURE

from mask2former.engine.interruption import LostProcessError, lost_processes_named, signals_to_children

PATIENCE = 60  # seconds until a process that still waits for the killed one counts as hanging
SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import resuming, os, signal, torch
from pathlib import Path
root, folder, rank, meeting, killed, iteration, place, workers, *resume = sys.argv[1:]
rank = int(rank)
torch.set_num_threads(1)
resuming.register(Path(root))
torch.distributed.init_process_group("gloo", init_method=f"file://{{meeting}}", rank=rank, world_size=2)
options = ["TEST.EVAL_PERIOD", 4] if place == "evaluation" else []
trainer = resuming.NotingTrainer(resuming.configuration(folder, "DATALOADER.NUM_WORKERS", workers, *options))
trainer.resume_or_load(resume=bool(resume))

def die():
    if rank == int(killed) and trainer.iter == int(iteration):
        os.kill(os.getpid(), signal.SIGKILL)

def then(method):  # ends before the step, between its forward and its backward pass, or after it
    def run(*args):
        if place != "after":
            die()
        result = method(*args)
        die()
        return result
    return run

if place == "evaluation":
    resuming.NotingTrainer.test = classmethod(lambda cls, cfg, model: die() or {{}})
elif place == "inside":
    trainer.model.module.register_forward_hook(lambda module, inputs, outputs: die())
else:
    trainer.run_step = then(trainer.run_step)
trainer.train()
if resume:
    whole = resuming.train(folder + "/whole", "DATALOADER.NUM_WORKERS", workers)
    torch.save((trainer.start_iter, resuming.state(trainer), resuming.state(whole)), f"{{folder}}/state{{rank}}.pth")
torch.distributed.destroy_process_group()
"""


def run(datasets, folder, meeting, killed=-1, iteration=0, place="before", workers=0, resume=False):
    """Train with two processes; return exit code and standard error of each. One that hangs fails the test."""
    (folder.parent / "train.py").write_text(SCRIPT)
    started, files = [], [folder.parent / f"{meeting}{rank}.err" for rank in range(2)]
    for rank in range(2):
        words = [datasets, folder, rank, folder.parent / meeting, killed, iteration, place, workers]
        words = [folder.parent / "train.py", *words, *["--resume"] * resume]
        started.append(start_python(words, folder.parent / "out", files[rank], folder=folder.parent))
    try:
        if killed >= 0:
            started[killed].join()
        for process in started:
            process.join(PATIENCE if killed >= 0 else None)
        codes = [process.exitcode for process in started]  # None: it hangs
    finally:
        for process in started:
            process.kill()
    return [(code, file.read_text()) for code, file in zip(codes, files, strict=True)]


CASES = [
    pytest.param(1, 8, "inside", 0, marks=TORTURE),
    (1, 7, "evaluation", 0),  # before which a checkpoint is written
    pytest.param(0, 8, "inside", 2, marks=TORTURE),
    pytest.param(0, 5, "after", 0, marks=TORTURE),  # just before the first checkpoint is written
    pytest.param(1, 7, "before", 2, marks=TORTURE),
    pytest.param(1, 11, "inside", 0, marks=TORTURE),  # in the last step
    pytest.param(0, 6, "before", 2, marks=TORTURE),
]


@pytest.mark.parametrize(("killed", "iteration", "place", "workers"), CASES)
def test_the_other_process_ends_and_the_next_run_goes_on(datasets, tmp_path, killed, iteration, place, workers):
    """Its weights and optimiser are in the end those of the uninterrupted run."""
    ends = run(datasets, tmp_path / "run", "first", killed, iteration, place, workers)
    assert ends[killed][0] == -signal.SIGKILL
    code, said = ends[1 - killed]
    assert code == 1, said
    message = f"LostProcessError: Process {1 - killed} lost the connection to another process of this training"
    assert message in said and "lack of memory" in said
    assert re.search(r"newest whole checkpoint if there is one:\n.* .*train\.py --resume ", said)
    for code, said in run(datasets, tmp_path / "run", "second", workers=workers, resume=True):
        assert code == 0, said
    for rank in range(2):
        start, state, whole = torch.load(tmp_path / "run" / f"state{rank}.pth")
        different = {name for name in whole if not torch.equal(state[name], whole[name])}
        assert start == (8 if place == "evaluation" else 6 if iteration > 5 else 0)
        # A checkpoint has the first process's running statistics, on which nothing in training depends.
        assert different <= ({"backbone.1.running_mean", "backbone.1.running_var"} if rank else set())


def kill_one(rank):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_launcher_names_the_killed_process():
    said = r"Process 1 of this training was killed \(SIGKILL\)"
    with pytest.raises(LostProcessError, match=said), signals_to_children():
        torch.multiprocessing.spawn(kill_one, nprocs=2)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes") as caught, lost_processes_named():
        raise RuntimeError("shapes differ")
    assert type(caught.value) is RuntimeError
