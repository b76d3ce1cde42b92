"""tools/setup_env.py: which packages it asks for, and that the lists go together."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
SPEC = importlib.util.spec_from_file_location("setup_env", ROOT / "tools" / "setup_env.py")
assert SPEC and SPEC.loader
setup_env = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(setup_env)


def pins(file: str) -> dict[str, set[str]]:
    """Return the pinned versions of each package of a file, whatever the Python."""
    found: dict[str, set[str]] = {}
    for line in (REQUIREMENTS / file).read_text().splitlines():
        name, version = re.match(r"([\w.-]+)==([\w.]+)", line).groups()  # type: ignore[union-attr]
        found.setdefault(name, set()).add(version)
    return found


def asked(file: str) -> set[str]:
    lines = (REQUIREMENTS / file).read_text().splitlines()
    return {match[0] for line in lines if (match := re.match(r"[\w-]+", line)) and not line.startswith("-")}


def test_what_runs_is_a_part_of_the_lock() -> None:
    run, lock = pins("run.txt"), pins("lock.txt")
    assert all(versions <= lock[name] for name, versions in run.items())
    assert asked("run.in") <= run.keys()
    assert not {"pytest", "hypothesis", "ruff", "mypy", "transformers", "onnx", "onnxruntime", "ray"} & run.keys()


@pytest.mark.parametrize(
    ("purpose", "backend", "has_gpu", "kept"),
    [
        ("all", "", False, {"torch", "triton", "nvidia-nccl-cu13", "cuda-bindings", "pytest"}),
        ("run", "", True, {"torch", "triton", "nvidia-nccl-cu13", "cuda-bindings"}),
        ("run", "", False, {"torch", "nvidia-nccl-cu13", "cuda-bindings"}),
        ("run", "cpu", False, {"torch"}),
        ("all", "cpu", False, {"torch", "pytest"}),
        ("all", "auto", True, {"torch", "triton", "nvidia-nccl-cu13", "cuda-bindings", "pytest"}),
    ],
)
def test_what_a_machine_has_no_use_for_is_left_out(purpose: str, backend: str, has_gpu: bool, kept: set[str]) -> None:
    text = setup_env.PINNED[purpose].read_text()
    listed = setup_env.without(text, setup_env.left_out(purpose, backend, has_gpu))
    names = {line.partition("==")[0] for line in listed.splitlines()}
    watched = {"torch", "triton", "nvidia-nccl-cu13", "cuda-bindings", "pytest"}
    assert names & watched == kept


@pytest.mark.parametrize(("value", "left_out"), [("1", ()), ("0", ("triton",))])
def test_an_image_for_gpus_keeps_what_compiles_for_them(
    value: str, left_out: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_CUDA", value)
    monkeypatch.setenv("PATH", "")
    if value == "0" and Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    assert setup_env.left_out("run", "") == left_out


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of a program that stands for the environment's python; a test writes what it does."""
    monkeypatch.setattr(setup_env, "BIN", tmp_path)
    monkeypatch.delenv("MASK2FORMER_NO_EXT", raising=False)
    return tmp_path / "python"


def write_program(file: Path, lines: str) -> None:
    file.write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o755)


def test_a_compiler_that_fails_ends_the_set_up_with_its_words(compiler: Path) -> None:
    write_program(compiler, 'echo "no compiler: $3" >&2; exit 3')
    ended = pytest.raises(SystemExit, match=r"no compiler: build_ext[\s\S]*exit status 3")
    with ended, setup_env.compiling_operator(wanted=True) as compiled:
        compiled()


def test_the_compiler_ends_where_another_step_fails(compiler: Path, tmp_path: Path) -> None:
    write_program(compiler, f"echo $$ > {tmp_path}/pid; sleep 600")
    with pytest.raises(SystemExit, match="another"), setup_env.compiling_operator(wanted=True):
        end = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < end, "the program has not started"
            time.sleep(0.01)
        raise SystemExit("another step failed")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_nothing_is_compiled_where_it_is_there_or_unwanted(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with setup_env.compiling_operator(wanted=False) as compiled:
        compiled()
    monkeypatch.setenv("MASK2FORMER_NO_EXT", "1")
    with setup_env.compiling_operator(wanted=True) as compiled:  # there is no program that could be started
        compiled()
