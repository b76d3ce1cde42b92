"""The benchmark of memory from import to step runs, and what it prints adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from benchmarks.peaks import measure, table  # noqa: E402


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("use", ["image", pytest.param("step", marks=pytest.mark.slow)])
def test_the_command_runs(use: str, tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    cases = {"image": ["quickstart/semantic:64x96"], "step": ["quickstart/semantic:2x64x64"]}
    command = [sys.executable, "tools/benchmark.py", "memory", "--json", file]
    command += [
        "--images",
        *(cases["image"] if use == "image" else []),
        "--steps",
        *(cases["step"] if use == "step" else []),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text())["rows"]
    ready = "load" if use == "image" else "build"
    assert row["use"] == use and list(row["stages"]) == ["torch", "mask2former", ready, "first", "second"]
    peaks = [stage["peak"] for stage in row["stages"].values()]
    assert f" {max(peaks) / 2**20:.0f} " in done.stdout and min(peaks) > 2**25
    assert all(stage["peak"] >= stage["after"] for stage in row["stages"].values())
    # Loading takes the model and its weights' pages of the file; a step adds gradients and AdamW's two moments.
    before, within = ("mask2former", "load") if use == "image" else ("build", "second")
    grown = row["stages"][within]["peak"] - row["stages"][before]["after"]
    assert grown > (1 if use == "image" else 3) * row["weights"]


def test_a_case_needs_a_configuration_and_for_images_one_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a configuration and a size"):
        measure("image", "64x96", 1, tmp_path)
    with pytest.raises(ValueError, match="one at a time"):
        measure("image", "quickstart/semantic:2x64x96", 1, tmp_path)
    assert table([]) == ""
