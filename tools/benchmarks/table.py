"""Show the results of `benchmark.py op`: tables and a chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tabulate import tabulate

from benchmarks.cases import Case
from benchmarks.command import save_chart
from benchmarks.operator import LAYERS, MODES, Row


def tables(rows: Sequence[Row]) -> str:
    """Return a table for each case and number of threads: operators, then layers."""
    blocks = []
    for layers in (False, True):
        chosen = [row for row in rows if (row.contestant in LAYERS) == layers]
        chosen.sort(key=lambda row: (row.case.size, row.case.dtype, row.case.locations, row.threads))
        for (case, threads), group in groupby(chosen, key=lambda row: (row.case, row.threads)):
            where = "encoder layer" if layers else f"samples {case.locations}"
            title = f"{case.size}, {case.dtype}, {where}, {threads} CPU thread{'s' if threads > 1 else ''}"
            blocks.append(f"{title}\n{table(list(group))}")
    return "\n\n".join(blocks)


def table(rows: Sequence[Row]) -> str:
    lines = []
    modes = [mode for mode in MODES if any(row.mode == mode for row in rows)]
    for name in dict.fromkeys(row.contestant for row in rows):
        own = {row.mode: row for row in rows if row.contestant == name}
        line = {"": next(iter(own.values())).label}
        for mode in modes:
            row = own[mode]
            half = (row.upper_quartile - row.lower_quartile) / 2
            line[f"{mode}, ms"] = f"{row.median * 1e3:.3g} ± {half * 1e3:.2g}"
            line[f"{mode}: x plain"] = "" if row.ratio is None else f"{row.ratio:.2f}"
            if row.floor is not None:
                line[f"{mode}: of limit"] = f"{row.floor / row.median:.1%}"
            line[f"{mode}: peak MiB"] = "" if row.peak is None else f"{row.peak / 2**20:.1f}"
        errors = [row.error for row in own.values() if row.error is not None]
        if errors:
            line["error"] = f"{max(errors):.0e}"
        lines.append(line)
    # Long headings take two lines each.
    headings = {key: key.replace(", ms", ",\nms").replace(": ", ":\n") for key in lines[0]}
    return tabulate(lines, headers=headings, colalign=("left", *["right"] * (len(headings) - 1)), disable_numparse=True)


def scaling(rows: Sequence[Row]) -> str:
    """Return a table of how many times as fast each is with more threads than with the fewest."""
    counts = sorted({row.threads for row in rows})
    times = {(row.case, row.contestant, row.mode, row.threads): row for row in rows}
    lines = []
    for (case, name, mode, threads), row in times.items():
        if threads == counts[0]:
            others = {f"{c} threads": f"{row.median / times[case, name, mode, c].median:.2f}" for c in counts[1:]}
            lines.append({"": row.label, "case": _short(case), "what": mode, **others})
    return tabulate(lines, headers="keys", disable_numparse=True)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the times of all cases as bars, forward and training side by side, and mark the machine's limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if row.contestant not in LAYERS]
    groups = list(dict.fromkeys((row.case, row.threads) for row in rows))
    names = {row.contestant: row.label for row in rows}
    colours = dict(zip(names, pyplot.get_cmap("tab10").colors, strict=False))
    height = 1.2 + 0.25 * len(names) * len(groups)
    figure, axes = pyplot.subplots(1, 2, figsize=(12, height), sharey=True, layout="constrained")
    for axis, mode in zip(axes, MODES, strict=True):
        ticks = []
        for index, (case, threads) in enumerate(groups):
            chosen = [row for row in rows if (row.case, row.threads, row.mode) == (case, threads, mode)]
            start = index * (len(names) + 1)
            for place, row in enumerate(chosen):
                spread = [[row.median - row.lower_quartile], [row.upper_quartile - row.median]]
                axis.barh(start + place, row.median * 1e3, color=colours[row.contestant])
                axis.errorbar(row.median * 1e3, start + place, xerr=[[x[0] * 1e3] for x in spread], color="black")
                axis.text(row.upper_quartile * 1e3, start + place, f"  {row.median * 1e3:.3g}", va="center", fontsize=8)
            if chosen and chosen[0].floor is not None:
                floor = chosen[0].floor * 1e3
                axis.plot([floor, floor], [start - 0.5, start + len(chosen) - 0.5], color="black", linestyle=":")
            ticks.append(
                (start + (len(chosen) - 1) / 2, f"{_short(case)}\n{threads} thread{'s' if threads > 1 else ''}")
            )
        axis.set_yticks([place for place, _ in ticks], [words for _, words in ticks], fontsize=8)
        axis.set_title(f"{mode}, ms (dotted: the machine's limit)", fontsize=10)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colours[name]) for name in names]
    figure.legend(handles, names.values(), loc="outside lower center", ncols=len(names), fontsize=8)
    save_chart(figure, file)


def sentences(notes: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {name}: {reason}" for name, reason in notes)


def _short(case: Case) -> str:
    return f"{case.size} {case.dtype} {case.locations}"
