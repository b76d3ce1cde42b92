"""Show the results of `benchmark.py families`: a table, charts, and in words where one network overtakes another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from benchmarks.command import save_chart

if TYPE_CHECKING:
    from benchmarks.families import Row

EQUAL = 0.02  # times that differ by no more than this share are taken for equal


def table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        case, half = row.case, (row.upper_quartile - row.lower_quartile) / 2
        lines.append(
            {
                "": row.name,
                "of": "step" if case.step else "inference",
                "side": case.side,
                "batch": case.batch,
                "queries": case.queries or "",
                "seconds": f"{row.median:.3g} ± {half:.2g}",
                "G": "" if row.giga is None else f"{row.giga:.1f}",
                "peak MiB": "" if row.peak is None else f"{row.peak / 2**20:.0f}",
            }
        )
    return tabulate(
        lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=("left", "left", *["right"] * 6)
    )


def crossings(rows: Sequence[Row]) -> list[str]:
    """Say for each pair of networks at which side the slower one becomes the faster one, in inference and in steps.

    The side is interpolated between two measured ones, in which logarithms of times are taken for straight lines over
    logarithms of sides.
    """
    words = []
    for step, what in ((False, "inference"), (True, "a training step")):
        curves: dict[str, dict[int, float]] = {}
        for row in rows:
            if row.case.step == step and row.case.batch == 1 and not row.case.queries:
                curves.setdefault(row.name, {})[row.case.side] = row.median
        for one, two in itertools.combinations(curves, 2):
            both = sorted(curves[one].keys() & curves[two].keys())
            measured = {side: math.log(curves[one][side] / curves[two][side]) for side in both}
            sides = [side for side, ratio in measured.items() if abs(ratio) > EQUAL]
            ratios = [measured[side] for side in sides]
            for left, right in itertools.pairwise(range(len(sides))):
                if ratios[left] * ratios[right] < 0:
                    share = ratios[left] / (ratios[left] - ratios[right])
                    side = math.exp((1 - share) * math.log(sides[left]) + share * math.log(sides[right]))
                    faster, slower = (one, two) if ratios[left] < 0 else (two, one)
                    words.append(f"In {what}, {faster} is faster than {slower} below {side:.0f} pixels, slower above.")
    return words


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw seconds and peak memory against sides, queries, batches and the sides of a step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    plain = [row for row in rows if not row.case.step and not row.case.queries]
    usual = max((row.case.batch, row.case.side) for row in rows)[1]  # the side at which batches vary
    kinds = {
        "side of the image": [row for row in plain if row.case.batch == 1],
        "queries": [row for row in rows if row.case.queries],
        "images at a time": [row for row in plain if row.case.side == usual],
        "training step: side of the image": [row for row in rows if row.case.step],
    }
    values = [
        lambda row: row.case.side,
        lambda row: row.case.queries,
        lambda row: row.case.batch,
        lambda row: row.case.side,
    ]
    names = list(dict.fromkeys(row.name for row in rows))
    colours = {name: f"C{index}" for index, name in enumerate(names)}
    figure, grid = pyplot.subplots(2, 4, figsize=(15, 6.5), layout="constrained")
    for column, (label, value) in enumerate(zip(kinds, values, strict=True)):
        for name in names:
            chosen = sorted([row for row in kinds[label] if row.name == name], key=value)
            across = [value(row) for row in chosen]
            heights = ([row.median for row in chosen], [(row.peak or 0) / 2**20 for row in chosen])
            for axis, height in zip(grid[:, column], heights, strict=True):
                axis.plot(across, height, marker="o", color=colours[name], label=name)
        for axis, title in zip(grid[:, column], ("seconds of a batch", "peak memory, MiB"), strict=True):
            axis.set_xlabel(label, fontsize=9)
            axis.set_title(title, fontsize=9)
            if axis.lines and max(max(line.get_ydata(), default=0) for line in axis.lines) > 0:
                axis.set_yscale("log")
            axis.grid(alpha=0.3, which="both")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), fontsize=9)
    save_chart(figure, file)
