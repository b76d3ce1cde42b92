"""Write ``compare.html``, which shows runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mask2former.dashboard.curves import charts_of
from mask2former.dashboard.pages import write_page
from mask2former.dashboard.runs import Run

SHOWN = ("loss", "parts", "scores", "lr", "gradient", "speed", "memory")  # charts to show, by prefixes of their names
HERE = ("OUTPUT_DIR", "VERSION")  # keys whose differences mean nothing


def write_comparison(file: Path, runs: Sequence[Run]) -> Path:
    """Write the page into an existing folder; runs are named after their folders."""
    names = short_names([run.folder for run in runs])
    return write_page(
        file,
        "compare.html",
        {
            "title": " and ".join(names) if len(names) < 3 else f"{len(names)} runs",
            "names": names,
            "folders": [str(run.folder) for run in runs],
            "iterations": [run.metrics.last + 1 for run in runs],
            "scores": score_rows([run.headlines() for run in runs]),
            "charts": [{"id": f"chart-{i}", **chart} for i, chart in enumerate(_overlaid(names, runs))],
            "differences": differences([run.config for run in runs]),
        },
    )


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the last parts of the paths, as few as tell them apart; identical paths get numbers."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while length < max(map(len, parts)) and len({p[-length:] for p in parts}) < len(set(parts)):
        length += 1
    names = ["/".join(p[-length:]) for p in parts]
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def score_rows(scores: Sequence[Mapping[str, float]]) -> list[tuple[str, list[tuple[float | None, bool]]]]:
    """Return a row for each score: its name, and for each run (percent or None, whether it is the best).

    A best one is marked only if several runs have the score and they differ.
    """
    rows = []
    for name in dict.fromkeys(name for of_run in scores for name in of_run):
        values = [of_run.get(name) for of_run in scores]
        known = [value for value in values if value is not None and value == value]
        best = max(known) if len(known) > 1 and max(known) > min(known) else None
        rows.append(
            (name, [(value if value == value else None, value is not None and value == best) for value in values])
        )
    return rows


def differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return (key, value in each run) for keys whose values differ; a dash stands for a missing key."""
    missing = object()
    rows = []
    for key in sorted({key for config in configs for key in config} - set(HERE)):
        values = [config.get(key, missing) for config in configs]
        if any(value != values[0] for value in values):
            rows.append((key, ["\u2013" if value is missing else str(value) for value in values]))
    return rows


def _overlaid(names: Sequence[str], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Make one chart for each line, with that line of every run."""
    overlaid: dict[str, dict[str, Any]] = {}
    for number, (name, run) in enumerate(zip(names, runs, strict=True)):
        for kind, chart in charts_of(run.metrics, run.batch_size).items():
            if not kind.startswith(SHOWN):
                continue
            for line in chart["series"]:
                title = chart["title"] if len(chart["series"]) == 1 else f"{chart['title']}: {line['name']}"
                entry = overlaid.setdefault(title, {**chart, "title": title, "series": []})
                entry["series"].append({**line, "name": name, "colour": number})
    return list(overlaid.values())
