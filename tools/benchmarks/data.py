"""`benchmark.py data`: its options, its table and its chart."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.cases import parse_size
from benchmarks.command import hand_out, save_chart, sub_command
from mask2former.measure.machine import describe
from mask2former.measure.timing import Patience

if TYPE_CHECKING:
    from benchmarks.mappers import Row

ABOUT = """Images a second of the data mapper on one core, beside the straightforward one: decode the image, decode
every mask at full size, put each through every transform, keep those that have a pixel left. Both get the same
random draws and have to give the same tensors bit by bit, or the benchmark stops.

Instances and panoptic segments by large-scale jitter to 1024 pixels, semantic labels by resize and crop to 512.
"""
COLUMNS = """
How to read the tables
  masks          number left in an image, on average
  images/s     1 / median time of an image, one after the other on one core; all times are the processor's, which other
                 programs on the machine change less than the clock's
  ratio          of both
  parts, ms      where an image's time goes: image (decoding it), annotation (decoding that; in the straightforward
                 mapper part of "masks" or, where it is a png, of "image"), augment (the image), masks, rest
  handed, ms     putting the result into shared memory, as a worker process of a data loader does; not in the others

Examples
  %(prog)s                                      drawn images, and the real ones of --root where they are
  %(prog)s --sizes 480x640 --objects 30 --repeats 3          half a minute
  %(prog)s --root /path/to/data --json data.json --chart data.png
"""


def run(arguments: argparse.Namespace) -> None:
    import cv2

    from benchmarks.mappers import drawn_cases, measure, real_cases

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    patience = Patience(arguments.repeats, arguments.seconds)
    rows = []
    if arguments.root:
        rows += [measure(case, patience) for case in real_cases(arguments.root, arguments.images)]
    sizes = [parse_size(size)[1:] for size in arguments.sizes]
    rows += [measure(case, patience) for case in drawn_cases(sizes, arguments.objects, arguments.images)]
    said = words(rows)
    print(f"\n{table(rows)}\n\n{parts_table(rows)}\n\n" + "\n".join(said))
    numbers = [asdict(row) | {"ratio": row.ratio} for row in rows]
    report = {"machine": facts, "rows": numbers, "table": table(rows), "words": said}
    hand_out(arguments, report, rows, draw)


def table(rows: Sequence[Row]) -> str:
    from tabulate import tabulate

    lines = [
        {
            "images": row.case,
            "task": row.task,
            "masks": f"{row.masks:.1f}",
            "ours, images/s": f"{1 / row.ours.median:.1f}",
            "straightforward, images/s": f"{1 / row.plain.median:.1f}",
            "ratio": f"{row.ratio:.2f}",
        }
        for row in rows
    ]
    align = ("left", "left", *["right"] * 4)
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def words(rows: Sequence[Row]) -> list[str]:
    """Say of each task between which numbers the ratio is, and in how many rows it is at least two."""
    said = []
    for task in dict.fromkeys(row.task for row in rows):
        ratios = sorted(row.ratio for row in rows if row.task == task)
        twice = sum(ratio >= 2 for ratio in ratios)
        said.append(
            f"{task}: {ratios[0]:.1f} to {ratios[-1]:.1f} times; at least twice in {twice} of {len(ratios)} rows."
        )
    return said


def parts_table(rows: Sequence[Row]) -> str:
    from tabulate import tabulate

    lines = []
    for row in rows:
        for name, parts in (("ours", row.parts), ("straightforward", row.plain_parts)):
            times = {f"{part}, ms": f"{seconds * 1e3:.1f}" for part, seconds in parts.items()}
            handed = {"handed, ms": f"{row.handed * 1e3:.1f}"}
            lines.append({"images": f"{row.case}, {row.task}", "": name, **times, **handed})
    return tabulate(lines, headers="keys", disable_numparse=True, colalign=("left", "left", *["right"] * 6))


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the times of an image by part as stacked bars, ours above the straightforward one's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(11, 1.5 + 0.5 * len(rows)), layout="constrained")
    colours = pyplot.get_cmap("tab10").colors
    for place, row in enumerate(rows):
        for offset, parts in ((-0.2, row.parts), (0.2, row.plain_parts)):
            left = 0.0
            for colour, (part, seconds) in zip(colours, parts.items(), strict=False):
                label = part if place == 0 and offset < 0 else None
                axis.barh(place + offset, seconds * 1e3, 0.36, left=left, color=colour, label=label)
                left += seconds * 1e3
        axis.text(sum(row.plain_parts.values()) * 1e3, place + 0.2, f" x {row.ratio:.1f}", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [f"{row.case}, {row.task}" for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=100)
    axis.set_xlabel("ms an image: ours above, straightforward below; logarithmic beyond 100 ms")
    axis.legend(fontsize=8)
    save_chart(figure, file)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "data", run, what="the data mapper", about=ABOUT, columns=COLUMNS)
    add("--root", type=Path, help="folder of real data sets (coco_sample, nuclei, camvid), as training reads them")
    add(
        "--sizes",
        nargs="*",
        default=["480x640", "1500x2000"],
        metavar="HxW",
        help="sizes of drawn images (%(default)s)",
    )
    add(
        "--objects", nargs="+", type=int, default=[5, 30, 100], help="numbers of objects in a drawn image (%(default)s)"
    )
    add("--images", type=int, default=6, help="number of images of each kind (%(default)s)")
    add("--repeats", type=int, help="rounds of each measurement, instead of --seconds")
    add("--seconds", type=float, default=5.0, help="time for each mapper and kind of image (%(default)s)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw the times into this image")
