"""The benchmarks of evaluation and of the data mapper, at tiny sizes. Times are nobody's to assert."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def benchmark(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(TOOLS / "benchmark.py"), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOOLS.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_eval_command(tmp_path: Path) -> None:
    pytest.importorskip("panopticapi", reason="Detectron2's panoptic evaluator needs it")
    files = ["--json", str(tmp_path / "new" / "eval.json"), "--chart", str(tmp_path / "eval.png")]
    printed = benchmark("eval", "--images", "3", "--different", "2", "--size", "64x96", "--objects", "6", *files)
    rows = json.loads((tmp_path / "new" / "eval.json").read_text())["rows"]
    scores: dict[str, set[float]] = {}
    for row in rows:
        assert row["process"] > 0 and row["evaluate"] > 0
        assert (row["model"] is not None) == (row["task"] == "semantic")
        scores.setdefault(row["task"], set()).add(round(row["score"], 6))
        assert row["evaluator"] in printed
    assert {task: len(found) for task, found in scores.items()} == {"panoptic": 1, "instance": 1, "semantic": 1}
    assert all(0 < found.pop() < 100 for found in scores.values())
    assert (tmp_path / "eval.png").read_bytes().startswith(b"\x89PNG")


def test_data_command(tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "data.json"), "--chart", str(tmp_path / "data.png")]
    options = ["--sizes", "64x96", "--objects", "3", "--images", "2", "--repeats", "1"]
    printed = benchmark("data", *options, *files)
    rows = json.loads((tmp_path / "data.json").read_text())["rows"]
    assert [row["task"] for row in rows] == ["instance", "instance", "panoptic", "semantic"]
    for row in rows:
        assert row["case"].startswith("96x64, 3 objects") and row["images"] == 2
        assert row["ours"]["median"] > 0 and row["plain"]["median"] > 0
        assert row["ratio"] == pytest.approx(row["plain"]["median"] / row["ours"]["median"])
    assert "straightforward" in printed
    report = json.loads((tmp_path / "data.json").read_text())
    assert report["run"]["command"] == "tools/benchmark.py data " + " ".join(options)  # where files went is left out
    assert [line.partition(":")[0] for line in report["words"]] == ["instance", "panoptic", "semantic"]
    assert f"{rows[2]['ratio']:.1f} to {rows[2]['ratio']:.1f} times; at least twice in" in report["words"][1]
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["eval", "data"])
def test_help_teaches(command: str) -> None:
    printed = benchmark(command, "--help")
    for words in ("How to read the table", "Examples", "--chart"):
        assert words in printed
