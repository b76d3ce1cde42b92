"""`benchmark.py bulk`: its rates are those of the rows, and processor times are the processes' own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("tabulate")
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarks.bulk import Row, busy_time, processor_time, table

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads processor times as Linux tells them")


def test_the_table_has_rates_by_hand() -> None:
    """One worker: 10 images/s at 0.1 s each, one core; two: 18 images/s at 0.1 s, 1.8 cores."""
    rows = [Row(1, 40, 4.0, 4.0, 2.0), Row(2, 72, 4.0, 7.2, 0.4)]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(rows).splitlines()[2:]]
    assert lines == [["1", "10", "1.00", "0.1", "1.00", "0.50"], ["2", "18", "1.80", "0.1", "1.80", "0.10"]]


def test_processor_time_is_that_of_the_process() -> None:
    """Its own counter says how much it has used, as a lower bound of what /proc tells afterwards."""
    script = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    words = [sys.executable, "-c", script, "marked-process"]
    before = busy_time()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        time.sleep(0.05)
        found = processor_time(("marked-process", "process_time"))
        process.stdin.write("\n")
    assert list(found) == [process.pid] and found[process.pid] >= 0.29
    assert busy_time() - before >= 0.29
