"""`benchmark.py bulk`: how the images per second of `mask2former predict --engine ray` grow with its workers."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.command import sub_command, write_numbers
from mask2former.measure.machine import describe

ABOUT = """Whole runs of `mask2former predict --engine ray`, with numbers of workers in turns. Measured is the time
between two moments of a run, the end of the first shard of each worker and the end of the last one: Ray's start and
loading the model are left out. Linux only: processor times are read from /proc.
"""
COLUMNS = """
How to read the table (medians over the rounds)
  images/s     by the clock
  x            that, divided by the same with the first number of workers
  CPU s/image  processor time of the workers; equal numbers say that a worker does not slow the others down
  cores        processors' time of the workers, by the clock
  others       the same of all other processes on the machine, which take cores from the workers

Example
  %(prog)s --model output/mine --images datasets/quickstart/images/train --workers 1 2 --rounds 3
"""
COMMAND = "import sys; from mask2former_cli.main import main; sys.exit(main())"
TICK = 1 / os.sysconf("SC_CLK_TCK")
PAUSE = 0.1  # seconds between two looks


@dataclass(frozen=True)
class Row:
    """One run's rates, of all workers together: see COLUMNS."""

    workers: int
    images: int
    seconds: float
    processor: float
    others: float


def processor_time(marks: Sequence[str] = ("ray::", "RayWorker")) -> dict[int, float]:
    """Return the processor's seconds so far of each process whose command line has all of these words."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            if all(mark in line for mark in marks):
                # Behind the name, which may have spaces and is in brackets, come the third field and so on.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(folder.name)] = (int(fields[11]) + int(fields[12])) * TICK
        except (OSError, IndexError):  # it has ended since
            continue
    return found


def busy_time() -> float:
    """Return the seconds for which the machine's processors have been busy, added up."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(numbers[:8]) - numbers[3] - numbers[4]) * TICK  # without idle and waiting


def measure(words: Sequence[str], workers: int, shard_size: int) -> Row:
    """Run the command of these words once.

    Raises:
        RuntimeError: it failed, or was over before it could be measured.
    """
    with tempfile.TemporaryDirectory() as output:
        given = ["--engine", "ray", "--workers", str(workers), "--shard-size", str(shard_size), "--output", output]
        command = [sys.executable, "-c", COMMAND, "predict", *words, *given]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        looks: list[tuple[int, float, float, float]] = []  # when another shard was done
        while process.poll() is None:
            shards = len(list(Path(output, "shards").glob("*.json")))
            if shards >= workers and (not looks or shards > looks[-1][0]):
                looks.append((shards, time.perf_counter(), sum(processor_time().values()), busy_time()))
            time.sleep(PAUSE)
        said = process.stderr.read() if process.stderr else ""
    if process.returncode or len(looks) < 2:
        raise RuntimeError(
            f"{' '.join(words)}: ended with {process.returncode}, after {len(looks)} looks.\n{said[-3000:]}"
        )
    shards, seconds, own, busy = (last - first for first, last in zip(looks[0], looks[-1], strict=True))
    return Row(workers, int(shards) * shard_size, seconds, own, busy - own)


def table(rows: Sequence[Row]) -> str:
    """Return a table of the medians, in Markdown."""
    lines: list[list[Any]] = []
    for workers in dict.fromkeys(row.workers for row in rows):
        of = [row for row in rows if row.workers == workers]
        rate = median(row.images / row.seconds for row in of)
        first = rate if not lines else lines[0][1]
        cost = median(row.processor / row.images for row in of)
        cores, others = (median(getattr(row, name) / row.seconds for row in of) for name in ("processor", "others"))
        lines.append([workers, rate, rate / first, cost, cores, others])
    head = ["workers", "images/s", "x", "CPU s/image", "cores", "others"]
    return tabulate(lines, head, tablefmt="github", floatfmt=("d", ".3g", ".2f", ".3g", ".2f", ".2f"))


def run(arguments: argparse.Namespace) -> None:
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    words = ["--model", arguments.model, "--input", *arguments.images, "--cpus", "1", *arguments.opts]
    rows = []
    for number in range(arguments.rounds):
        for workers in arguments.workers:
            print(f"round {number + 1}, {workers} workers ...", file=sys.stderr, flush=True)
            rows.append(measure(words, workers, arguments.shard_size))
            print(rows[-1], file=sys.stderr, flush=True)
    shown = table(rows)
    print(f"\n{shown}\n")
    if arguments.json:
        report = {"machine": facts, "rows": [asdict(row) for row in rows], "table": shown}
        write_numbers(report, arguments.json)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    what = "predict --engine ray as its workers grow"
    add = sub_command(commands, "bulk", run, what=what, about=ABOUT, columns=COLUMNS)
    add("--model", required=True, help="as of mask2former predict")
    add("--images", nargs="+", required=True, help="as --input of mask2former predict")
    add("--workers", nargs="+", type=int, default=[1, 2], help="numbers of workers (default: 1 2)")
    add("--shard-size", type=int, default=16, help="images of a shard (default: %(default)s)")
    add("--rounds", type=int, default=2, help="runs with each number of workers (default: %(default)s)")
    add("--opts", nargs="+", default=[], help="more words for mask2former predict")
    add("--json", type=Path, help="write all numbers to this file")
