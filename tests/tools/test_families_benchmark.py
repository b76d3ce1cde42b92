"""`benchmark.py families`: it measures every family in inference and in a step, and finds where curves cross."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("tabulate")
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmark import main
from benchmarks.families import Case, Row
from benchmarks.families_table import crossings


def row(name: str, side: int, seconds: float, *, step: bool = False) -> Row:
    return Row(Case(name, step, side), name, seconds, seconds, seconds, 1, None, None)


def test_curves_cross_where_their_powers_are_equal() -> None:
    """One grows as side^2, the other as side^4 / 400^2: equal at 400, wherever the sides are measured."""
    rows = [row("square", side, side**2) for side in (256, 512, 1024)]
    rows += [row("fourth", side, side**4 / 400**2) for side in (256, 512, 1024)]
    assert crossings(rows) == ["In inference, fourth is faster than square below 400 pixels, slower above."]
    assert crossings(rows[:3] + [row("slow", side, 2 * side**2) for side in (256, 512)]) == []
    assert crossings([row("square", 256, 1), row("other", 256, 2, step=True), row("other", 512, 0, step=True)]) == []


def test_it_measures_inference_and_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["quickstart/semantic", "quickstart/segvit", "quickstart/kmax"]
    file, chart = tmp_path / "numbers.json", tmp_path / "chart.png"
    words = [
        "--sides",
        "64",
        "128",
        "--step-sides",
        "64",
        "--queries",
        "20",
        "--batches",
        "2",
        "--side",
        "64",
        "--repeats",
        "1",
    ]
    main(["families", "--models", *models, *words, "--no-memory", "--json", str(file), "--chart", str(chart)])
    rows = json.loads(file.read_text())["rows"]
    found = {(r["name"], r["case"]["side"], r["case"]["step"], r["case"]["queries"], r["case"]["batch"]) for r in rows}
    shapes = {(64, False, 0, 1), (128, False, 0, 1), (64, True, 0, 1), (64, False, 20, 1), (64, False, 0, 2)}
    expected = {(name.split("/")[1], *shape) for name in models for shape in shapes}
    assert found == expected - {("segvit", 64, False, 20, 1)}  # it has a query for each class
    assert "quickstart/segvit has a query for each class" in capsys.readouterr().err
    plain = [r for r in rows if not r["case"]["step"] and not r["case"]["queries"] and r["case"]["batch"] == 1]
    giga = {(r["name"], r["case"]["side"]): r["giga"] for r in plain}
    for name in ("semantic", "segvit", "kmax"):
        assert 3 < giga[name, 128] / giga[name, 64] < 8  # as the pixels, or attention as their square
    assert chart.stat().st_size > 10_000
