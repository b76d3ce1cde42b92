"""Show the results of `benchmark.py infer`: a table and charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.command import save_chart
from benchmarks.inference import DEFAULT_FLOOR, FLOOR, Row

LABELS = {"ours": "ours", "huggingface": "Hugging Face", FLOOR: "floor"}


def table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        one, half = row.setting, (row.upper_quartile - row.lower_quartile) / 2
        varied = {f"{one.queries} queries": one.queries, "mixed": one.mixed, one.compile: one.compile}
        case = [Path(one.model).stem, f"{one.size[0]}x{one.size[1]}", one.task, one.dtype]
        line = {
            "": LABELS.get(row.name, row.name),
            "case": " ".join([*case, *(words for words, there in varied.items() if there)]),
            "batch": str(one.batch),
            "seconds": f"{row.median:.3g} ± {half:.2g}",
            "images/s": f"{row.images_per_second:.2f}",
            "x HF": "" if row.ratio is None else f"{row.ratio:.2f}",
            "x floor": "" if row.of_floor is None else f"{row.of_floor:.2f}",
            "peak MiB": "" if row.peak is None else f"{row.peak / 2**20:.0f}",
        }
        lines.append({**line, **{part: f"{seconds:.3f}" for part, seconds in row.parts.items()}})
    keys = list(dict.fromkeys(key for line in lines for key in line))
    cells = [[line.get(key, "") for key in keys] for line in lines]
    align = ("left", "left", *["right"] * (len(keys) - 2))
    return tabulate(cells, headers=keys, tablefmt="github", disable_numparse=True, colalign=align)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the seconds of each implementation as bars, divided into parts, with peak memory beside them."""
    pyplot = _pyplot()
    rows = [row for row in rows if row.name not in (FLOOR, DEFAULT_FLOOR)]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 1.5 + 0.4 * len(rows)), sharey=True, layout="constrained", width_ratios=[2, 1]
    )
    names = list(dict.fromkeys(part for row in rows for part in row.parts))
    colours = dict(zip(names, pyplot.get_cmap("tab10").colors, strict=False))
    for place, row in enumerate(rows):
        total, start = sum(row.parts.values()), 0.0
        for part, seconds in row.parts.items() if total else [("", 1.0)]:
            share = row.median * seconds / (total or 1.0)  # the parts were measured in a run of their own
            left.barh(place, share, left=start, color=colours.get(part, "grey"))
            start += share
        left.text(row.median, place, f"  {row.median:.3g} s", va="center", fontsize=8)
        if row.of_floor:
            floor = row.median / row.of_floor
            left.plot([floor, floor], [place - 0.5, place + 0.5], color="black", linestyle=":")
        if row.peak is not None:
            right.barh(place, row.peak / 2**20, color="grey")
            right.text(row.peak / 2**20, place, f"  {row.peak / 2**20:.0f}", va="center", fontsize=8)
    left.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=8)
    left.set_title("seconds of a batch (dotted: the floor)", fontsize=10)
    right.set_title("peak memory beyond the weights, MiB", fontsize=10)
    left.margins(x=0.15), right.margins(x=0.2)
    left.invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colours[name]) for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=max(1, len(names)), fontsize=8)
    save_chart(figure, file)


def draw_growth(rows: Sequence[Row], file: Path) -> None:
    """Draw time and memory against one quantity at a time, with the others as in most rows."""
    pyplot = _pyplot()
    axes_of = {
        "image, megapixels": lambda row: row.setting.size[0] * row.setting.size[1] / 1e6,
        "queries, half of them objects": lambda row: row.setting.queries or 0,
        "images at a time": lambda row: row.setting.batch,
    }
    figure, grid = pyplot.subplots(2, 3, figsize=(11, 5.5), layout="constrained")
    for column, (label, value) in enumerate(axes_of.items()):
        others = [other for name, other in axes_of.items() if name != label]
        usual = [max(set(all_), key=all_.count) for all_ in ([other(row) for row in rows] for other in others)]
        chosen = [row for row in rows if [other(row) for other in others] == usual and value(row)]
        chosen.sort(key=value)
        for axis, name in zip(grid[:, column], ("seconds of a batch", "peak memory, MiB"), strict=True):
            heights = [row.median if name.startswith("seconds") else (row.peak or 0) / 2**20 for row in chosen]
            axis.plot([value(row) for row in chosen], heights, marker="o")
            axis.set_xlabel(label, fontsize=9)
            axis.set_ylim(bottom=0)
            axis.set_title(name, fontsize=9)
            axis.grid(alpha=0.3)
    save_chart(figure, file)


def _name(row: Row) -> str:
    one = row.setting
    size = f"{one.size[0]}x{one.size[1]}"
    batch = f" x {one.batch}" if one.batch > 1 else ""
    return f"{LABELS.get(row.name, row.name)}\n{Path(one.model).stem} {size}{batch} {one.dtype}"


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
