"""The comparison of the pinned packages with the lists of faults, with a stand-in for pip-audit."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FAULT = {"id": "PYSEC-1", "fix_versions": ["1.1"]}
FINE, BAD = {"name": "a", "version": "1.0", "vulns": []}, {"name": "b", "version": "1.0", "vulns": [FAULT]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found and could not be audited: c (1.0)"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", Path(__file__).parents[2] / "tools" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_in(tmp_path: Path, output: str, status: int) -> list[str]:
    """A program that prints a text and ends with a status."""
    (tmp_path / "stand_in.py").write_text(f"import sys\nprint({output!r})\nsys.exit({status})\n")
    return [sys.executable, str(tmp_path / "stand_in.py")]


@pytest.mark.parametrize(
    ("packages", "status", "expected", "says"),
    [
        ([FINE], 0, 0, "1 of 1 packages compared, 0 with known faults"),
        ([FINE, BAD], 1, 1, "b 1.0: PYSEC-1, fixed in 1.1"),
        ([FINE, SKIPPED], 0, 2, "1 of 2 packages compared"),  # which pip-audit calls no fault
        ([SKIPPED, BAD], 1, 1, "1 of 2 packages compared, 1 with known faults"),
        ([], 0, 2, "0 of 0"),
    ],
)
def test_packages(
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    packages: list[dict],
    status: int,
    expected: int,
    says: str,
) -> None:
    command = stand_in(tmp_path, json.dumps({"dependencies": packages}), status)
    assert tool.audit(command, tmp_path / "lock.txt") == expected
    assert says in capsys.readouterr().out


def test_no_network(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.audit(stand_in(tmp_path, "Connection refused", 1), tmp_path / "lock.txt") == 2
    assert "could not be compared with the list of faults. Is there a network" in capsys.readouterr().err
    assert tool.audit([str(tmp_path / "absent")], tmp_path / "lock.txt") == 2
    assert "make setup" in capsys.readouterr().err
