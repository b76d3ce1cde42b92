"""Run tests in this process, and record each outcome as soon as it is known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gpu_steps.record import LONGEST, Context, Record

ROOT = Path(__file__).resolve().parents[2]


class Outcomes:
    """Count outcomes in the record's notes, add failures with their tracebacks, and stop when time is over."""

    def __init__(self, context: Context, record: Record, reserve: float) -> None:
        self.context, self.record, self.reserve = context, record, reserve
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.record.note(chosen=len(session.items))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        self.counts[report.outcome] += 1
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reasons[str(report.longrepr[2])] += 1
        if report.failed:
            self.record.add(report.nodeid, error=report.longreprtext[-LONGEST:])
        self.record.note(tests=dict(self.counts), skipped=dict(self.reasons))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self.context.left() < self.reserve:
            pytest.exit(f"no time for what comes after {nodeid}", returncode=0)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.record.add(report.nodeid, error=report.longreprtext[-LONGEST:])


def run_tests(context: Context, record: Record, words: list[str], reserve: float = 0.0) -> None:
    """Run ``pytest WORDS`` until ``reserve`` seconds are left.

    Raises:
        RuntimeError: no test was found, or pytest gave up.
    """
    outcomes = Outcomes(context, record, reserve)
    options = ["--quiet", "--rootdir", str(ROOT), "-p", "no:cacheprovider", "--tb=short", "-o", "addopts="]
    code = pytest.main([*options, *words], plugins=[outcomes])
    ran = sum(outcomes.counts.values())
    if missed := record.content["notes"].get("chosen", 0) - ran:
        record.skip(f"{missed} tests")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not ran:
        raise RuntimeError(f"pytest {' '.join(words)} ended with {code!r} after {ran} tests.")
