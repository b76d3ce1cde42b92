"""The benchmark of films, on one of a few small frames. Times are nobody's to assert."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory as Linux tells it")
def test_film_command(small_training: Path, tmp_path: Path) -> None:
    words = ["film", "--model", str(small_training), "--size", "48x64", "--frames", "5", "--early", "2"]
    words += ["--threshold", "0.01", "--json", str(tmp_path / "film.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/benchmark.py"), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    rows = {row["way"]: row for row in json.loads((tmp_path / "film.json").read_text())["rows"]}
    assert set(rows) == {"frames", "tracked"} and all(way in done.stdout for way in rows)
    for row in rows.values():
        assert row["frames"] == 5 and row["seconds"] > 0 and row["objects"] > 0
        assert min(row["early"], row["late"]) > 2**20
    assert rows["frames"]["tracks"] == 0 < rows["tracked"]["tracks"]
