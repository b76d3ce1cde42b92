"""`benchmark.py eval`: its options, its table and its chart."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.cases import parse_size
from benchmarks.command import hand_out, save_chart, sub_command
from mask2former.measure.machine import describe

if TYPE_CHECKING:
    from benchmarks.evaluators import Row

ABOUT = """Time of scoring a thousand images: panoptic quality, average precision and mIoU, by our evaluators and by
Detectron2's own. Ground truth and predictions are drawn; both get the same, and their scores stand beside each other.
"""
COLUMNS = """
How to read the table
  process, s    per thousand images, what is done after each prediction
  evaluate, s   per thousand images, what is done at the end
  ratio         time of Detectron2's evaluator by this one's, both parts together
  CPU, s        CPU time per thousand images of both parts, other processes included
  CPU ratio     the same of CPU times, which other programs on the machine change less
  model, s      per thousand images, what the model takes after the network to make scores of all classes, or only
                labels (of 100 queries; semantic only, where evaluators take one or the other)
  with model    ratio of all three together

Detectron2's average precision is the official pycocotools where its compiled code is missing (release 0.6 from the
package registry), and a C++ version of the same where it is there.

Examples
  %(prog)s                      200 images of 480x640 with 20 segments
  %(prog)s --images 1000 --json eval.json --chart eval.png
"""


def run(arguments: argparse.Namespace) -> None:

    from benchmarks.evaluators import measure

    torch.set_num_threads(1)
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    with tempfile.TemporaryDirectory() as folder:
        different = min(arguments.different, arguments.images)
        size = parse_size(arguments.size)[1:]
        counts = arguments.objects, arguments.rounds
        rows = list(measure(Path(folder), arguments.images, different, size, *counts))
    shown, said = table(rows), words(rows)
    print(f"\n{shown}\n\n" + "\n".join(said))
    report = {"machine": facts, "rows": [asdict(row) for row in rows], "table": shown, "words": said}
    hand_out(arguments, report, rows, draw)


def table(rows: Sequence[Row]) -> str:
    from tabulate import tabulate

    base = {row.task: row for row in rows if row.evaluator == "Detectron2"}
    lines = [
        {
            "task": row.task,
            "evaluator": row.evaluator,
            "process, s": f"{row.process * 1e3:.1f}",
            "evaluate, s": f"{row.evaluate * 1e3:.1f}",
            "ratio": f"{base[row.task].scoring / row.scoring:.1f}",
            "CPU, s": f"{row.cpu * 1e3:.1f}",
            "CPU ratio": f"{base[row.task].cpu / row.cpu:.1f}",
            "model, s": "" if row.model is None else f"{row.model * 1e3:.1f}",
            "with model": "" if row.model is None else f"{_whole(base[row.task]) / _whole(row):.1f}",
            "score": f"{row.score:.6f}",
        }
        for row in rows
    ]
    align = ("left", "left", *["right"] * 8)
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def words(rows: Sequence[Row]) -> list[str]:
    """Say for each of our evaluators how many times Detectron2's CPU time is its own, and whether that is ten."""
    base = {row.task: row.cpu for row in rows if row.evaluator == "Detectron2"}
    said = []
    for row in rows:
        if row.evaluator != "Detectron2":
            ratio = base[row.task] / row.cpu
            reached = "ten times is reached" if ratio >= 10 else "ten times is not reached"
            said.append(
                f"{row.task}, {row.evaluator}: Detectron2's evaluator takes {ratio:.1f} times the CPU time; {reached}."
            )
    return said


def _whole(row: Row) -> float:
    return row.scoring + (row.model or 0.0)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the seconds per thousand images as bars: process, then evaluate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 1 + 0.4 * len(rows)), layout="constrained")
    process, evaluate = ([getattr(row, part) * 1e3 for row in rows] for part in ("process", "evaluate"))
    axis.barh(range(len(rows)), process, label="process")
    axis.barh(range(len(rows)), evaluate, left=process, label="evaluate")
    axis.set_yticks(range(len(rows)), [f"{row.task}, {row.evaluator}" for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("seconds per thousand images")
    axis.legend(fontsize=8)
    save_chart(figure, file)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "eval", run, what="scoring", about=ABOUT, columns=COLUMNS)
    add("--images", type=int, default=200, help="number of images scored (%(default)s)")
    add("--different", type=int, default=10, help="number of images drawn; the others repeat those (%(default)s)")
    add("--size", default="480x640", metavar="HxW", help="image size in pixels (%(default)s)")
    add(
        "--objects",
        type=int,
        default=20,
        help="segments of an image; there are five predictions of each (%(default)s)",
    )
    add("--rounds", type=int, default=3, help="runs of each evaluator, in turns; the least counts (%(default)s)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw the times into this image")
