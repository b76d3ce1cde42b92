"""`benchmark.py eomt` on a tiny network: the command raises if the two networks do not give the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("tabulate")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmark import main
from benchmarks.eomt import OURS, THEIRS, Row, table


def test_it_measures_both(tmp_path: Path) -> None:
    words = ["--models", "quickstart/eomt", "--size", "96x128", "--objects", "3", "--repeats", "1"]
    main(["eomt", *words, "--json", str(tmp_path / "numbers.json")])
    rows = json.loads((tmp_path / "numbers.json").read_text())["rows"]
    assert {(row["part"], row["who"]) for row in rows} == {(p, w) for p in ("whole", "network") for w in (OURS, THEIRS)}
    assert all(row["median"] > 0 for row in rows)


def test_the_ratio_is_theirs_by_ours() -> None:
    rows = [Row("m", "whole", OURS, 2.0, 1.9, 2.1, 1.5, 3), Row("m", "whole", THEIRS, 3.0, 3.0, 3.0, 3.0, 3)]
    assert table(rows).splitlines()[-1].strip("|").split("|")[-2:] == [" 1.50 ", " 2.00               "]
