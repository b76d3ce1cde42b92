"""What runs with and without compiled code, and what is said about it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from operators import OPERATORS, Operator

from mask2former.ops import __main__ as report
from mask2former.ops import library


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_loaded", set())
    monkeypatch.setattr(library, "_warned", set())


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("compiled", [False, True])
def test_without_library_it_says_the_cost_once(op: Operator, caplog: pytest.LogCaptureFixture, compiled: bool) -> None:
    torch._dynamo.reset()
    function = torch.compile(op.function, fullgraph=True, backend="aot_eager") if compiled else op.function
    inputs = op.make()
    with caplog.at_level(logging.WARNING, logger=library.__name__):
        for _ in range(3):
            torch.testing.assert_close(function(*inputs), op.reference(*inputs))
    (message,) = [record.getMessage() for record in caplog.records if record.name == library.__name__]
    assert "cpu in plain PyTorch" in message and "pip install --no-build-isolation ." in message


def test_cpu_library_alone_leaves_cuda_to_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "_loaded", {"cpu"})
    monkeypatch.setattr(library, "_warned", set())
    with caplog.at_level(logging.WARNING, logger=library.__name__):
        assert [library.use_compiled(device) for device in ("cpu", "cuda", "cuda", "meta")] == [
            True,
            False,
            False,
            True,
        ]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "FORCE_CUDA=1" in message


@pytest.mark.parametrize(("reason", "fatal"), [("libcudart.so.13: cannot open", False), ("undefined symbol", True)])
def test_cuda_library_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str, fatal: bool
) -> None:
    """Built for another CUDA than torch's: left out, with the reason. Broken: an error."""

    def fail(path: str) -> None:
        raise OSError(reason)

    path = tmp_path / "libmask2former_cuda.so"
    path.touch()
    monkeypatch.setattr(library, "LIBRARIES", {"cuda": path})
    monkeypatch.setattr(library, "_loaded", set())
    monkeypatch.setattr(library, "_unfit", {})
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.ops, "load_library", fail)
    if fatal:
        with pytest.raises(ImportError, match=reason):
            library._load()
    else:
        library._load()
        assert not library.is_loaded("cuda")
        assert reason in library.how_to_speed_up("cuda")


@pytest.mark.parametrize("built", [True, False])
def test_report(built: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not built:
        monkeypatch.setattr(library, "_loaded", set())
    elif not library.is_loaded("cpu"):
        pytest.skip("the operator is not compiled")
    report.main()
    (cpu,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  cpu: ")]
    assert ("cpu: compiled operator" in cpu) == built
    assert ("MASK2FORMER_NO_EXT" in cpu) != built


@pytest.mark.skipif(not library.is_loaded("cpu"), reason="the operator is not compiled")
@pytest.mark.parametrize(("capability", "highest"), [("default", 0), ("avx2", 1)])
def test_pytorchs_own_variable_lowers_the_instruction_set(capability: str, highest: int) -> None:
    code = f"""
import torch
torch.ops.load_library({str(library.LIBRARIES["cpu"])!r})
print(torch.ops.mask2former._limit_cpu_variant(-1))
"""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) <= highest


@pytest.mark.skipif(not library.is_loaded("cpu"), reason="the operator is not compiled")
def test_asking_changes_nothing(limit_variant: Callable[[int], int]) -> None:
    assert limit_variant(0) == 0
    assert library.cpu_instructions() == "instructions that every machine of its kind has"
    assert limit_variant(-1) == 0
