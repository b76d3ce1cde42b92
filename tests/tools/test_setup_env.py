"""tools/setup_env.py: which packages it asks for, and that the lists go together."""

from __future__ import annotations

import importlib.util
import re
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
