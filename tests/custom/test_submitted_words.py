"""``mask2former train-custom --slurm`` looks at its words before a job waits for its turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from mask2former_cli import run_command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["SOLVER.MAX_ITERS", "5"], "SOLVER.MAX_ITERS"),
        (["--val", "nowhere.json"], "nowhere.json: there is no such file or folder"),
    ],
)
def test_faults_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    own = ["--data", str(tmp_path), "--output", str(tmp_path / "mine"), "--model", "small_r18", "--from-scratch"]
    assert run_command("train-custom", ["--slurm", "cluster=local,gpus=0", *own, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
