"""Run steps one after the other, each in a process group of its own, which is ended at the step's limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_steps.record import LONGEST, Context, write_json

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        function: ``module:function``.
        share, rehearsed: its part of the time, in any unit, on a GPU and in a rehearsal on a CPU.
    """

    name: str
    title: str
    function: str
    share: float
    rehearsed: float

    def share_on(self, device: str) -> float:
        return self.rehearsed if device == "cpu" else self.share


@dataclass(frozen=True)
class Run:
    """The settings that all steps share.

    Attributes:
        out, work: folder for the JSON files, and folder for all else.
        device: cuda or cpu.
        minutes: time for all steps together.
        environment: variables of the steps' processes.
        machine: facts for the files.
    """

    out: Path
    work: Path
    device: str
    minutes: float
    environment: dict[str, str]
    machine: dict[str, Any]


def run_steps(steps: Sequence[Step], run: Run) -> list[dict[str, Any]]:
    """Run all steps, even if some fail, and return the contents of their files.

    A step's limit is its share of the remaining time, so that later ones get what one does not use. In a rehearsal it
    is twice that.
    """
    end = time.time() + 60 * run.minutes
    contents = []
    for index, step in enumerate(steps):
        share, *others = (other.share_on(run.device) for other in steps[index:])
        part = share / (share + sum(others))
        if run.device == "cpu":  # steps of a rehearsal end by themselves, and a busy machine is slow at any of them
            part = min(1.0, 2 * part)
        limit = max(0.0, end - time.time()) * part
        print(f"{step.name}: {step.title}, at most {limit:.0f} s ...", flush=True)
        content = run_step(step, limit, run)
        contents.append(content)
        print(summary(content), flush=True)
    return contents


def run_step(step: Step, limit: float, run: Run) -> dict[str, Any]:
    """Run a step and return the content of its file, which says so if it was cut off or died."""
    context = Context(
        *(step.name, step.title, step.function, str(run.out), str(run.work), run.device),
        *(limit, time.time() + limit, run.machine),
    )
    given, log = run.work / f"{step.name}.context", run.work / f"{step.name}.log"
    file = run.out / f"{step.name}.json"
    file.unlink(missing_ok=True)  # from an earlier run
    write_json(given, asdict(context))
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpu_steps.run_step", str(given)],
            **{"cwd": ROOT, "env": run.environment, "stdout": output, "stderr": subprocess.STDOUT},
            start_new_session=True,
        )
        ended = _ended(process, limit)
    if ended and process.returncode == 0:
        return json.loads(file.read_text())
    content = json.loads(file.read_text()) if file.exists() else {"step": step.name, "title": step.title}
    content["output"] = log.read_text(errors="replace")[-LONGEST:]
    content.setdefault("machine", run.machine)
    if content.get("status") != "failed":
        died = f"died with exit status {process.returncode}"
        content.update(status=died if ended else "cut off", seconds=time.perf_counter() - started)
    write_json(file, content)
    return content


def _ended(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Wait for a process, or end it and all that it started; return True if it ended by itself."""
    try:
        process.wait(limit)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):  # the whole group, since children may outlive the process
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def summary(content: dict[str, Any]) -> str:
    """Return a line about the outcome of a step, and the last line of each of its errors."""
    results = content.get("results", [])
    errors = [(one["case"], one["error"]) for one in results if "error" in one]
    if content.get("error"):
        errors.append(("step", content["error"]))
    left = len(content.get("not reached", []))
    words = f"{content['step']}: {content['status']}, {content.get('seconds', 0):.0f} s, {len(results)} results"
    words += f", {len(errors)} errors" * bool(errors) + f", {left} not reached" * bool(left)
    lines = [f"    {case}: {(text.strip() or '?').splitlines()[-1][:200]}" for case, text in errors[:8]]
    return "\n".join([words, *lines])
