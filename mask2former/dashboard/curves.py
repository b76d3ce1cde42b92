"""Write ``curves.html``, which shows a training while it runs."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mask2former.dashboard.pages import write_page
from mask2former.dashboard.runs import headlines
from mask2former.dashboard.series import Metrics, Series

LOSS = re.compile(r"(loss_\w+?)(?:_(\d+))?$")  # loss_mask of the last layer; loss_mask_0 ... of the earlier ones
PARTS = {"loss_ce": "classes", "loss_mask": "masks (pixels)", "loss_dice": "masks (dice)"}

Chart = dict[str, Any]


def write_curves(
    file: Path,
    metrics: Metrics,
    *,
    title: str,
    max_iter: int | None = None,
    batch_size: int | None = None,
    refresh: float | None = None,
) -> Path:
    """Write the page into an existing folder.

    Args:
        metrics: the values so far.
        title: name of the run.
        max_iter: iterations of the whole training, if known.
        batch_size: images in an iteration, if known.
        refresh: seconds after which the page loads itself again; None: the training is over.
    """
    charts = charts_of(metrics, batch_size)
    done = metrics.last + 1 if max_iter is None else min(metrics.last + 1, max_iter)
    return write_page(
        file,
        "curves.html",
        {
            "title": title,
            "charts": [{"id": f"chart-{name}", **chart} for name, chart in charts.items()],
            "scores": [(name, value) for name, value in headlines(metrics.scores()).items() if value == value],
            "done": done,
            "max_iter": max_iter,
            "left": _left(metrics, done, max_iter),
            "written": time.time(),
            "refresh": refresh,
        },
    )


def charts_of(metrics: Metrics, batch_size: int | None = None) -> dict[str, Chart]:
    """Return specifications for charts.js, by a name that is valid in an HTML id; leave out charts without values."""
    found = metrics.series
    losses = {name: match for name in found if (match := LOSS.fullmatch(name))}
    parts = list(dict.fromkeys(match[1] for match in losses.values()))
    charts = {
        "loss": _chart(
            "Loss",
            "Sum over all parts and layers.",
            "loss",
            [("total loss", found.get("total_loss")), ("on validation images", found.get("validation_loss"))],
        ),
        "parts": _chart(
            "Loss by part", "Losses of the last layer.", "loss", [(PARTS.get(p, p), found.get(p)) for p in parts]
        ),
    }
    for part in parts:
        layers = [(_layer(m), found[name]) for name, m in losses.items() if m[1] == part]
        if len(layers) > 1:
            words = "One line for each decoder layer; the prediction of each is supervised."
            charts[f"layers-{part}"] = _chart(PARTS.get(part, part), words, "loss", sorted(layers, key=_by_layer))
            charts[f"layers-{part}"]["layers"] = True
    for number, (unit, lines) in enumerate(_scores(metrics)):
        charts[f"scores-{number}"] = {
            **_chart(f"Scores{unit}", "One point for each evaluation.", "%", lines),
            "unit": "%",
        }
    charts["lr"] = _chart("Learning rate", "Rate of the largest parameter group.", "rate", [("rate", found.get("lr"))])
    charts["gradient"] = _chart("Gradient", "Norm before clipping.", "norm", [("norm", found.get("grad_norm"))])
    if batch_size and "time" in found:
        x, y = found["time"].points()
        speed = _line("images a second", x, [batch_size / seconds if seconds > 0 else 0.0 for seconds in y])
        charts["speed"] = {
            **_chart("Speed", "Images a second, loading included.", "images/s", []),
            "series": [speed],
        }
        charts["speed"]["y"]["min"] = 0
    charts["memory"] = _chart("Memory", "Peak so far.", "GiB", [("memory", found.get("memory_gib"))])
    charts["memory"]["y"]["min"] = 0
    return {name: chart for name, chart in charts.items() if any(line["x"] for line in chart["series"])}


def _scores(metrics: Metrics) -> Iterator[tuple[str, list[tuple[str, Series]]]]:
    """Yield (", data set" or "", lines) of the main scores."""
    by_dataset: dict[str, list[tuple[str, Series]]] = {}
    for name, series in metrics.series.items():
        if "/" not in name:
            continue
        task, metric = name.rsplit("/", 1)
        for headline in headlines({task: {metric: 0.0}}):
            dataset, _, plain = headline.rpartition(": ")
            by_dataset.setdefault(f", {dataset}" if dataset else "", []).append((plain, series))
    order = list(headlines(metrics.scores()))
    for dataset, lines in by_dataset.items():
        if max(len(series.x) for _, series in lines) < 2:
            continue  # one point is no line; the page shows the score itself
        yield dataset, sorted(lines, key=lambda line: next(i for i, o in enumerate(order) if o.endswith(line[0])))


def _chart(title: str, words: str, unit: str, lines: Sequence[tuple[str, Series | None]]) -> Chart:
    series = [_line(name, *values.points()) for name, values in lines if values is not None]
    return {
        "title": title,
        "words": words,
        "x": {"label": "iteration", "min": 0},
        "y": {"label": unit},
        "series": series,
    }


def _line(name: str, x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    return {"name": name, "x": x, "y": y}


def _layer(match: re.Match[str]) -> str:
    return "last layer" if match[2] is None else f"layer {match[2]}"


def _by_layer(line: tuple[str, Any]) -> tuple[bool, int]:
    number = line[0].rsplit(" ", 1)[-1]
    return (not number.isdigit(), int(number) if number.isdigit() else 0)


def _left(metrics: Metrics, done: int, max_iter: int | None) -> str | None:
    """Return the remaining time, estimated from the speed over the last tenth of the points."""
    if max_iter is None or done >= max_iter or "time" not in metrics.series:
        return None
    seconds = metrics.series["time"].points()[1]
    recent = seconds[-max(1, len(seconds) // 10) :]
    return str(datetime.timedelta(seconds=round((max_iter - done) * sum(recent) / len(recent))))
