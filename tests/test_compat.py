"""compat.py: each step only where the fault is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mask2former import compat


@pytest.mark.parametrize(("source", "old"), [("interp=Image.LINEAR", True), ("interp=Image.BILINEAR", False)])
def test_names_are_restored_for_the_release_that_reads_them(tmp_path: Path, source: str, old: bool) -> None:
    (tmp_path / "data" / "transforms").mkdir(parents=True)
    (tmp_path / "data" / "transforms" / "transform.py").write_text(source)
    assert compat._reads_removed_names(tmp_path) is old


def test_applying_twice_changes_nothing() -> None:
    before = sys.modules["detectron2._C"]
    compat.apply()
    assert sys.modules["detectron2._C"] is before


def test_without_detectron2_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="make setup"):
        compat.apply()
