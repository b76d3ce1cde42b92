"""gpu_check: what becomes of steps that fail, hang or die, a rehearsal of real ones, and the page of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

from gpu_steps.record import Context, Record  # noqa: E402
from gpu_steps.report import write_page  # noqa: E402
from gpu_steps.runner import Run, Step, run_steps, summary  # noqa: E402

STEPS = """
import os, signal, subprocess, sys, time

def fails(context, record):
    record.add("first", number=1)
    raise ValueError("on purpose")

def hangs(context, record):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    record.add("child", pid=child.pid)
    time.sleep(300)

def dies(context, record):
    record.add("before", number=2)
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def skips(context, record):
    record.attempt(context, "bad", lambda: 1 / 0)
    record.attempt(context, "good", lambda: {"number": 3})
    time.sleep(max(0, context.left()))
    record.attempt(context, "late", lambda: {"number": 4})
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict]]:
    """The folder and the files of a run of four steps, in about ten seconds."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "steps_of_test.py").write_text(STEPS)
    out, work = folder / "out", folder / "work"
    out.mkdir(), work.mkdir()
    steps = [
        Step("build", "one that fails", "steps_of_test:fails", 8, 8),
        Step("gpu_tests", "one with errors inside", "steps_of_test:skips", 8, 8),
        Step("operator_tests", "one that hangs", "steps_of_test:hangs", 3, 3),
        Step("operator_times", "one that dies", "steps_of_test:dies", 5, 5),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{TOOLS}{os.pathsep}{folder}"}
    contents = run_steps(steps, Run(out, work, "cuda-less", 0.25, environment, {"device": "a test"}))
    files = {step.name: json.loads((out / f"{step.name}.json").read_text()) for step in steps}
    assert contents == list(files.values())
    return out, files


def test_step_that_fails_leaves_its_traceback_and_results(broken: tuple[Path, dict[str, dict]]) -> None:
    content = broken[1]["build"]
    assert content["status"] == "failed" and content["results"] == [{"case": "first", "number": 1}]
    assert "in fails" in content["error"] and content["error"].rstrip().endswith("ValueError: on purpose")
    assert content["machine"] == {"device": "a test"}


def test_step_that_hangs_is_cut_off_with_all_its_processes(broken: tuple[Path, dict[str, dict]]) -> None:
    content = broken[1]["operator_tests"]
    assert content["status"] == "cut off" and content["limit"] <= content["seconds"] < content["limit"] + 20
    (result,) = content["results"]
    for _ in range(100):
        if not _is_running(result["pid"]):
            break
        time.sleep(0.05)
    assert not _is_running(result["pid"])


def _is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_step_that_dies_leaves_its_results_and_last_words(broken: tuple[Path, dict[str, dict]]) -> None:
    content = broken[1]["operator_times"]
    assert content["status"] == "died with exit status -11" and "last words" in content["output"]
    assert content["results"] == [{"case": "before", "number": 2}]


def test_case_that_fails_or_comes_too_late_does_not_stop_a_step(broken: tuple[Path, dict[str, dict]]) -> None:
    content = broken[1]["gpu_tests"]
    assert content["status"] == "done" and content["not reached"] == ["late"]
    bad, good = content["results"]
    assert "ZeroDivisionError" in bad["error"] and good == {"case": "good", "number": 3}
    assert summary(content).splitlines()[1:] == ["    bad: ZeroDivisionError: division by zero"]


def test_page_names_everything_that_went_wrong(broken: tuple[Path, dict[str, dict]], tmp_path: Path) -> None:
    write_page([broken[0]], tmp_path / "gpu.md")
    page = (tmp_path / "gpu.md").read_text()
    assert "**Nothing of this project has run on a GPU yet.**" in page
    assert "- build, the step itself: `ValueError: on purpose`" in page
    assert "- operator_tests, the step itself: `cut off; its last output: no output`" in page
    assert "- operator_times, the step itself: `died with exit status -11; its last output: last words`" in page
    assert "- gpu_tests, bad: `ZeroDivisionError: division by zero`" in page and "late" in page


def test_file_is_whole_after_every_result(tmp_path: Path) -> None:
    context = Context("build", "a title", "", str(tmp_path), "", "cpu", 10.0, time.time() + 10, {})
    record = Record.begin(context)
    for number in range(3):
        record.add(str(number), number=number)
        content = json.loads((tmp_path / "build.json").read_text())
        assert content["status"] == "running" and len(content["results"]) == number + 1
    assert [file.name for file in tmp_path.iterdir()] == ["build.json"]


def test_page_without_a_run_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no JSON file of a step"):
        write_page([tmp_path], tmp_path / "gpu.md")


def rehearse(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "gpu_check.py"), "--out", str(out), "--device", "cpu", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_rehearsal_of_a_step_and_its_page(tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "gpu.md"
    done = rehearse(out, "--minutes", "3", "--steps", "operator_times")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    rows = [row for result in json.loads(file.read_text())["results"] for row in result.get("rows", [])]
    assert {row["contestant"] for row in rows} >= {"fused", "classic", "plain"}
    assert {row["mode"] for row in rows} == {"forward", "training"} and all(row["gather_floor"] > 0 for row in rows)
    assert all(row["error"] < 0.5 for row in rows)  # one that computes nothing would have 1
    write_page([out], page)
    assert "Nothing failed in the rehearsal." in page.read_text()


@pytest.mark.slow
def test_rehearsal_of_all_steps(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "--minutes", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    contents = [json.loads(file.read_text()) for file in tmp_path.iterdir()]
    assert len(contents) == 7 and all(one["status"] == "done" for one in contents)


def test_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, str(TOOLS / "gpu_check.py"), "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "PyTorch does not see the device cuda here" in done.stderr
