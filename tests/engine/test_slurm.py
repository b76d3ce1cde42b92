"""A training that submitit starts, stops by a signal and starts again ends as one that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from mask2former.cli.train import _without_slurm
from mask2former.config.load import ConfigError
from mask2former.engine.slurm import Allocation, TrainingJob, submit

PATIENCE = 240  # seconds for a process to start on a busy machine


def test_words_become_submitits_parameters():
    asked = Allocation.read("partition=gpu,nodes=2,gpus=8,hours=1.5,mail-user=a@b.c")
    assert asked.parameters() == {
        **{"nodes": 2, "tasks_per_node": 8, "gpus_per_node": 8, "cpus_per_task": 4, "timeout_min": 90.0},
        **{"slurm_signal_delay_s": 120, "slurm_partition": "gpu", "slurm_mail_user": "a@b.c"},
    }
    kinds = {key: type(value) for key, value in asked.parameters().items()}
    assert kinds["timeout_min"] is int  # submitit refuses others
    without = Allocation.read("gpus=0,tasks=4,memory=16,hours=0.05").parameters()
    assert "gpus_per_node" not in without
    assert (without["tasks_per_node"], without["mem_gb"], without["slurm_signal_delay_s"]) == (4, 16.0, 90)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("partition", "takes KEY=VALUE.*'partition'"),
        ("nodes=two", "nodes=two: it has to be a number"),
        ("hours=0", "hours=0: it has to be a number above 0"),
        ("node=2", "knows no node; nodes is meant"),
        ("cluster=pbs", "cluster=pbs: it is slurm, or local"),
    ],
)
def test_mistakes_are_named(word, message):
    with pytest.raises(ConfigError, match=message):
        Allocation.read(word)


def test_without_slurm_the_reason_is_said(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"not submitted.*slurm cluster"):
        submit(print, [], Allocation(), tmp_path)


def test_a_job_is_queued_again_to_resume():
    pytest.importorskip("submitit")
    again = TrainingJob(print, ["--config-file", "a.yaml"]).checkpoint().function
    assert (again.train, again.words) == (print, ["--resume", "--config-file", "a.yaml"])
    assert again.checkpoint().function.words == again.words


@pytest.mark.parametrize("given", [["--slurm", "gpus=2"], ["--slurm=gpus=2"], ["--sl", "gpus=2"]])
def test_the_job_does_not_submit_itself_again(given):
    words = ["--quiet", "--config-file", "a.yaml"]
    assert _without_slurm([words[0], *given, *words[1:], "SEED", "1"]) == [*words, "SEED", "1"]


def wait_for(*files):
    until = time.monotonic() + PATIENCE
    while not all(file.exists() for file in files):
        assert time.monotonic() < until, f"missing: {files}"
        time.sleep(0.1)


@pytest.mark.slow  # eight processes that import everything
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the job's processes below /proc")
def test_a_stopped_job_resumes_and_ends_as_one_that_was_not(datasets, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    import slurm_training

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(Path(__file__).parent)]))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    asked = Allocation(gpus=0, tasks=2, cluster="local")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    (whole / "go_on").touch()
    submit(slurm_training.train, [str(datasets), str(whole)], asked, tmp_path / "jobs").results()

    job = submit(slurm_training.train, [str(datasets), str(stopped)], asked, tmp_path / "jobs")
    wait_for(stopped / "waits0", stopped / "waits1")
    for process in Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split():
        os.kill(int(process), signal.SIGUSR2)
    (stopped / "go_on").touch()
    job.results()
    starts = [json.loads((stopped / f"start{rank}").read_text()) for rank in range(2)]
    assert starts == [6, 6]  # the step in which the signal came was finished and saved
    for rank in range(2):
        one, other = (torch.load(folder / f"state{rank}.pth") for folder in (whole, stopped))
        assert one.keys() == other.keys()
        # A checkpoint has the running statistics of the first process (docs/interruption.md).
        names = [name for name in one if rank == 0 or "running" not in name]
        assert [name for name in names if not torch.equal(one[name], other[name])] == []
