"""Step 2: the operator's tests on the GPU, then a small run of all its kernels under compute-sanitizer."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from typing import Any

from gpu_steps.pytest_outcomes import ROOT, run_tests
from gpu_steps.record import LONGEST, Context, Record

TOOLS = ("memcheck", "racecheck")


def run(context: Context, record: Record) -> None:
    record.attempt(context, "all kernels, against float64", lambda: small_run(context, []))
    on_gpu = ["-m", "gpu", "tests/ops"]
    rehearsed = ["tests/ops/test_ms_deform_attn.py", "-k", "gradcheck"]
    # The sanitizer is slow: it gets the last two fifths of the time.
    run_tests(context, record, rehearsed if context.is_tiny else on_gpu, reserve=0.4 * context.limit)
    for index, tool in enumerate(TOOLS):
        if context.is_tiny or shutil.which("compute-sanitizer") is None:
            missing = "needs a GPU" if context.is_tiny else "there is no compute-sanitizer here"
            record.note(**{tool: missing})
            continue
        limit = context.left() / (len(TOOLS) - index)
        words = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        record.attempt(context, tool, functools.partial(small_run, context, words, limit))


def small_run(context: Context, before: list[str], limit: float = 60.0) -> dict[str, Any]:
    """Run ``gpu_steps.small_run``, under another program if ``before`` names one; raise with its output if it fails."""
    command = [*before, sys.executable, "-m", "gpu_steps.small_run", context.device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    output = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{output[-LONGEST:]}")
    summary = re.search(r"(ERROR|RACECHECK) SUMMARY: .+", output)
    return {"said": summary.group() if summary else output.strip().splitlines()[-1]}
