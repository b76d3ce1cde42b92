"""tools/train_custom.py in processes that a launcher has started: the first prepares the data for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import layouts
import pytest
import torch
from test_train_custom import ROOT, TINY

from mask2former_cli import run_command

pytestmark = pytest.mark.slow  # processes that import everything


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launcher, "tools/train_custom.py", *words]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


def weights(file: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["model"]
    return content


def test_two_processes_train_on_one_conversion(tmp_path: Path) -> None:
    layouts.yolo(tmp_path / "data")
    output = tmp_path / "mine"
    words = ["--data", str(tmp_path / "data"), "--model", "small_r18", "--from-scratch", "--output", str(output)]
    done = torchrun(*words, "--quiet", *TINY)
    assert done.returncode == 0, done.stderr[-4000:]
    said = done.stdout + done.stderr
    for once in ("YOLO's files, by data.yaml", "iteration 2/2", f"Everything is in {output}"):
        assert said.count(once) == 1, said
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "total_loss" in row][-1] == 1
    assert weights(output / "model_final.pth")


def test_a_fault_in_the_data_ends_all_and_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = torchrun("--data", str(tmp_path / "empty"), "--output", str(tmp_path / "mine"), "MODEL.DEVICE", "cpu")
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1 and str(tmp_path / "empty") in done.stderr
    assert 'Traceback (most recent call last):\n  File "' + str(ROOT) not in done.stderr


def test_a_job_trains_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By submitit's local executor, which starts the processes as Slurm's would be."""
    pytest.importorskip("submitit")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    layouts.yolo(tmp_path / "data")
    output = tmp_path / "mine"
    words = ["--slurm", "cluster=local,gpus=0,tasks=2", "--data", str(tmp_path / "data"), "--model", "small_r18"]
    assert run_command("train-custom", [*words, "--output", str(output), *TINY]) == 0
    assert "was submitted" in capsys.readouterr().out
    until = time.monotonic() + 600
    while not (output / "model_final.pth").exists():
        logs = [file.read_text() for file in (output / "slurm").glob("*_log.err")]
        assert time.monotonic() < until and not any("Traceback" in text for text in logs), logs
        time.sleep(0.5)
