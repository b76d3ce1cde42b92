"""Step 4: the tests outside of the operator's that need a GPU: transfers counted, autocast, checkpointing."""

from __future__ import annotations

from gpu_steps.pytest_outcomes import ROOT, run_tests
from gpu_steps.record import Context, Record

MARK = "pytest.mark.gpu"


def run(context: Context, record: Record) -> None:
    files = marked_files()
    if context.is_tiny:  # only see that GPU tests can be collected, and run one test that needs no GPU
        run_tests(context, record, ["tests/modeling/test_transfers.py", "-k", "counting or gpu"])
    else:
        run_tests(context, record, ["-m", "gpu", *files])


def marked_files() -> list[str]:
    """Return the test files with GPU tests; importing all others would take longer than these tests."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in tests if MARK in file.read_text() and "ops" not in file.parts]
