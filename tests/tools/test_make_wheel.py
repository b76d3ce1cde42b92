"""The tag of a wheel: by auditwheel where it succeeds; else the wheel stays as it is, and the reason is told."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("make_wheel", Path(__file__).parents[2] / "tools" / "make_wheel.py")
assert spec is not None and spec.loader is not None
make_wheel = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_wheel)

# Stands for auditwheel: writes what it was asked to exclude into the wheel that it makes.
REPAIR = """
import sys
from pathlib import Path
words = sys.argv[1:]
assert words[0] == "repair"
into = Path(words[words.index("--wheel-dir") + 1])
into.mkdir()
(into / "m-1-py3-none-manylinux_2_34_x86_64.whl").write_text(" ".join(words))
"""


def wheel(folder: Path, *names: str) -> Path:
    file = folder / "m-1-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return file


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return wheel(tmp_path, "mask2former/__init__.py", "mask2former/ops/libmask2former_cpu.so")


def test_torch_is_left_out(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_wheel, "AUDITWHEEL", [sys.executable, "-c", REPAIR])
    found = make_wheel.tagged(library, tmp_path / "tagged")
    assert found.name == "m-1-py3-none-manylinux_2_34_x86_64.whl"
    assert "--exclude libtorch*.so* --exclude libc10*.so*" in found.read_text()
    assert found.read_text().endswith(str(library))


def test_a_failure_keeps_the_wheel_and_says_why(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_wheel, "AUDITWHEEL", [sys.executable, "-c", "import sys; sys.exit('no network')"])
    assert make_wheel.tagged(library, tmp_path / "tagged") == library
    said = capsys.readouterr().err
    assert "no network" in said and "keeps the tag of this machine" in said


def test_pure_python_needs_no_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_wheel, "AUDITWHEEL", ["no-such-program"])
    pure = wheel(tmp_path, "mask2former/__init__.py")
    assert make_wheel.tagged(pure, tmp_path / "tagged") == pure
