"""Signals stop a training in good order: step, checkpoint, command, exit code."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import SimpleTrainer
from detectron2.evaluation import DatasetEvaluator

sys.path.insert(0, str(Path(__file__).parent))
import resuming
from forked import run_forked

from mask2former.config import load_config
from mask2former.data.worker_signals import leave_signals_to_the_parent
from mask2former.engine.interruption import Interrupted, StopRequests, resume_command, stop_requests
from mask2former.engine.trainer import Trainer

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGUSR2: 140}
SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import resuming, os, signal, subprocess, time, torch
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests are a shell's background job
root, folder, number, workers, times = (word for word in sys.argv[1:] if word != "--resume")
root, number, times = Path(root), int(number), int(times)
resuming.register(root)
trainer = resuming.NotingTrainer(resuming.configuration(folder, "DATALOADER.NUM_WORKERS", workers))
trainer.resume_or_load(resume="--resume" in sys.argv)
step = trainer.run_step

def signal_all():  # the workers too, as a terminal or a scheduler does
    subprocess.run(["kill", f"-{{number}}", "--", f"-{{os.getpgrp()}}"])

def run_step():
    if trainer.iter == 3 and number:
        signal_all()
    if trainer.iter == 3 and times == 2:
        time.sleep(0.7)
        signal_all()
        time.sleep(60)
    step()

trainer.run_step = run_step
trainer.train()
torch.save(resuming.state(trainer), folder + "/state.pth")
"""


def run(arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, start_new_session=True)


@pytest.mark.parametrize(
    "number", [n if n in (signal.SIGTERM, signal.SIGUSR1) else pytest.param(n, marks=pytest.mark.slow) for n in CODES]
)
def test_a_signal_stops_and_the_printed_command_goes_on(datasets, tmp_path, number):
    """The weights in the end are those of the uninterrupted run; its own, not this process's, threads computed them."""
    resuming.register(datasets)
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "train.py"), str(datasets)]
    stopped = run([*command, str(tmp_path / "run"), str(int(number)), "2", "1"])
    assert stopped.returncode == CODES[number], stopped.stderr
    said = stopped.stdout + stopped.stderr
    assert f"{number.name}: stopping as soon as all is saved" in said
    assert f"{number.name}: stopped after iteration 4 of 12" in said and "Traceback" not in said
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000003.pth"
    if number != signal.SIGTERM:  # the rest is the same
        return
    going_on = shlex.split(re.search(r"To go on:\s+(.*--resume.*)", said).group(1))
    done = run(going_on)
    assert done.returncode == 0, done.stderr
    whole = run([*command, str(tmp_path / "whole"), "0", "0", "1"])
    assert whole.returncode == 0, whole.stderr
    states = [torch.load(tmp_path / name / "state.pth") for name in ("run", "whole")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_second_ctrl_c_stops_at_once(datasets, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    arguments = [str(datasets), str(tmp_path / "run"), str(int(signal.SIGINT)), "0", "2"]
    stopped = run([sys.executable, "-W", "ignore", str(tmp_path / "train.py"), *arguments])
    assert stopped.returncode == -signal.SIGINT and "KeyboardInterrupt" in stopped.stderr
    assert not (tmp_path / "run" / "last_checkpoint").exists()


def test_handlers_are_restored_and_those_of_users_are_left(datasets, tmp_path):
    resuming.register(datasets)
    calls = []

    def own(number, frame):
        calls.append(number)

    before = signal.signal(signal.SIGUSR1, own)
    others = {number: signal.getsignal(number) for number in CODES}
    try:
        trainer = resuming.NotingTrainer(resuming.configuration(tmp_path))
        step = trainer.run_step

        def run_step():
            if trainer.iter == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
            if trainer.iter == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            step()

        trainer.run_step = run_step
        with pytest.raises(Interrupted) as stop:
            trainer.train()
        assert (stop.value.code, stop.value.signal) == (143, signal.SIGTERM)
        assert calls == [signal.SIGUSR1] and trainer.iter == 5
        assert {number: signal.getsignal(number) for number in CODES} == others
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_leave_the_handlers_alone():
    found = []

    def look():
        with stop_requests() as requests:
            found.append((signal.getsignal(signal.SIGTERM), requests.number))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(signal.SIG_DFL, 0)]


def test_the_command_that_goes_on(monkeypatch):
    for original, argv, command in (
        (
            ["py", "-u", "a b.py", "K", "(1,)"],
            ["a b.py", "K", "(1,)"],
            "py -u 'a b.py' --resume K '(1,)'",
        ),
        (["py", "-m", "t", "--resume", "K"], ["/x/t.py", "--resume", "K"], "py -m t --resume K"),
    ):
        monkeypatch.setattr(sys, "orig_argv", original)
        monkeypatch.setattr(sys, "argv", argv)
        assert resume_command() == command


def worker(rank, root, folder):
    torch.set_num_threads(1)
    resuming.register(Path(root))
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    trainer = resuming.NotingTrainer(resuming.configuration(f"{folder}/run"))
    step = trainer.run_step

    def run_step():
        if rank == 1 and trainer.iter == 4:  # one alone: not the process that writes
            os.kill(os.getpid(), signal.SIGTERM)
        step()

    trainer.run_step = run_step
    try:
        trainer.train()
    except Interrupted as stop:
        Path(folder, f"stopped{rank}").write_text(f"{stop.code} {trainer.iter}")


def test_all_processes_stop_after_the_same_step(datasets, tmp_path):
    run_forked(worker, (str(datasets), str(tmp_path)))
    assert [(tmp_path / f"stopped{rank}").read_text() for rank in range(2)] == ["143 4", "143 4"]
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000004.pth"


def test_a_terminal_that_is_gone_loses_nothing(monkeypatch):
    """``| tee log`` gets the same Ctrl-C and may end first; then nothing can be said."""
    read, write = os.pipe()
    os.close(read)
    kept = os.dup(2)
    os.dup2(write, 2)
    try:
        requests = StopRequests()
        requests.note(signal.SIGINT)
    finally:
        os.dup2(kept, 2)
        os.close(write)
        os.close(kept)
    assert requests.number == signal.SIGINT


class Late(DatasetEvaluator):
    """A signal comes when all images have been seen."""

    def reset(self):
        pass

    def process(self, inputs, outputs):
        pass

    def evaluate(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return {"task": {"score": 1.0}}


class OneImage(Trainer):
    @classmethod
    def build_test_loader(cls, cfg, name):
        return [[{"image": 1}]]


def test_a_signal_while_scores_are_computed_is_not_forgotten(tmp_path, caplog):
    cfg = load_config(str(resuming.QUICKSTART), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)])
    with caplog.at_level(logging.INFO), pytest.raises(Interrupted) as stop:
        OneImage.test(cfg, torch.nn.Identity(), Late())
    assert stop.value.code == 143 and "Scores:" in caplog.text
    with stop_requests() as requests:  # whoever is outside decides
        assert OneImage.test(cfg, torch.nn.Identity(), Late()) == {"task": {"score": 1.0}}
    assert requests.number == signal.SIGTERM


def test_subclasses_with_a_training_step_of_their_own(datasets, tmp_path):
    """Detectron2's scripts replace the step, or the checkpointer, after ours is built."""
    resuming.register(datasets)

    class Own(resuming.NotingTrainer):
        def __init__(self, cfg):
            super().__init__(cfg)
            self._trainer = SimpleTrainer(self.model, self.data_loader, self.optimizer)
            self.checkpointer = DetectionCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
            self.register_hooks(self.build_hooks())

        def run_step(self):
            if self.iter == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            self._trainer.iter = self.iter
            self._trainer.run_step()

    trainer = Own(resuming.configuration(tmp_path))
    with pytest.raises(Interrupted):
        trainer.train()
    assert (tmp_path / "model_0000002.pth").exists()


def test_workers_of_an_evaluation_leave_signals_to_the_parent(tmp_path, datasets):
    resuming.register(datasets)
    loader = Trainer.build_test_loader(resuming.configuration(tmp_path), resuming.DATASET)
    assert loader.worker_init_fn is leave_signals_to_the_parent
