"""``mask2former doctor``: in an environment that is whole, in one that holds nothing, and in some between."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mask2former_cli import detectron2_release, findings
from mask2former_cli.main import main

ROOT = Path(__file__).parents[2]
BARE = "import sys; sys.path.insert(0, {!r}); from mask2former_cli.main import main; sys.exit(main({!r}))"


def bare(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program on Python's standard library and what is in ``folder``."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = BARE.format(str(ROOT), list(words))
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONPATH": str(folder)})


def test_where_nothing_is_installed(tmp_path: Path) -> None:
    done = bare(tmp_path, "doctor")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert "missing  torch" in lines and "missing  Detectron2" in lines
    assert lines[lines.index("missing  Detectron2") + 1].endswith("-> mask2former doctor --install-detectron2")
    assert re.search(r'-> .* install .*"torch>=2\.10" torchvision', done.stdout)
    assert lines[-1].startswith("Inference does not work yet")


def test_detectron2_is_not_built_without_torch(tmp_path: Path) -> None:
    done = bare(tmp_path, "doctor", "--install-detectron2")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Detectron2 is built with torch, which is not installed")


def test_a_release_as_it_comes_is_a_note_and_a_torn_one_a_fault(tmp_path: Path) -> None:
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").touch()
    assert re.search(r"^wrong +Detectron2 in .*detectron2 is not whole", bare(tmp_path, "doctor").stdout, re.M)
    (package / "data" / "transforms").mkdir(parents=True)
    (package / "data" / "transforms" / "transform.py").write_text("interp=Image.LINEAR, fill=0\n")
    said = bare(tmp_path, "doctor").stdout
    assert re.search(r"^note +Detectron2 of unknown version, without its compiled code .* as released", said, re.M)
    (package / "_C.cpython-311-x86_64-linux-gnu.so").touch()
    (package / "data" / "transforms" / "transform.py").write_text("interp=Image.BILINEAR, fill=0\n")
    assert re.search(r"^ok +Detectron2 of unknown version, with its", bare(tmp_path, "doctor").stdout, re.M)


def test_two_opencvs(tmp_path: Path) -> None:
    for name in ("opencv_python", "opencv_python_headless"):
        folder = tmp_path / f"{name}-5.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 5.0\n")
    said = bare(tmp_path, "doctor").stdout
    assert "note     opencv-python and opencv-python-headless overwrite each other" in said
    assert "pip uninstall opencv-python-headless; " in said
    (tmp_path / "opencv_python-5.0.dist-info" / "METADATA").unlink()
    assert "overwrite each other" not in bare(tmp_path, "doctor").stdout


def test_here_everything_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main(["doctor", "--install-detectron2"]) == 0
    said = capsys.readouterr().out
    assert "Detectron2: nothing to patch." in said and "Inference works." in said
    assert re.search(r"^ok +inference: a small model ran on cpu", said, re.M)
    assert re.search(r"^(ok|note) +operator for cpu: (compiled|plain PyTorch)", said, re.M)


def test_a_failing_import_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "PROBE", "mask2former_cli.nothing")
    assert main(["doctor"]) == 1
    assert "inference fails: " in (said := capsys.readouterr().out)
    assert "No module named mask2former_cli.nothing" in said


def test_a_failing_command_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands are replaced by one that fails; the real ones run in tools/check_wheel.py."""
    monkeypatch.setattr(detectron2_release, "commands", lambda: [[sys.executable, "-c", "raise SystemExit(7)"]])
    with pytest.raises(detectron2_release.InstallError, match="exit status 7"):
        detectron2_release.install()
    assert "raise SystemExit(7)" in capsys.readouterr().out


def test_the_archive_is_pinned_and_compiles_nothing() -> None:
    *_, needs, archive = detectron2_release.commands()
    assert {"yacs", "omegaconf", "torchvision"} <= set(needs)
    assert {"--no-deps", "--no-build-isolation", "--require-hashes"} <= set(archive)
    assert any("skip-build" in word for word in archive)
    assert re.search(r"==0\.6 --hash=sha256:[0-9a-f]{64}$", Path(archive[-1]).read_text().strip())
    locked = (ROOT / "requirements" / "run.in").read_text()
    assert all(re.search(rf"^{name}\b", locked, re.M) for name in needs[needs.index(sys.executable, 1) + 1 :])


def test_tables_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"torch", *findings.REQUIRED.values()} == {re.split("[>=]", one)[0] for one in project["dependencies"]}
    assert {name: list(packages) for name, (_, packages) in findings.EXTRAS.items()} == project["optional-dependencies"]


def test_looking_for_pip_leaves_setuptools_importable() -> None:
    """Before Python 3.12 setuptools gives way to a pip that is asked for, and PyTorch's extensions fail after that."""
    looks = "from mask2former_cli import findings; has = findings.has_pip(); findings.pip_install('x')"
    code = f"{looks}; import setuptools, importlib.metadata as m; assert has == any(m.distributions(name='pip'))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
