"""Read metrics.json as series over iterations, thinned out, and keep reading as it grows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIMIT = 500  # most points in a series


class Series:
    """Values over iterations. If there are too many, neighbours are joined into their mean.

    Args:
        limit: most points to keep; None: all.
    """

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.limit = limit
        self.x: list[float] = []
        self.y: list[float] = []
        self._group = 1  # number of values that a point is the mean of
        self._waiting: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Add a value and drop those at ``x`` or later: a training that resumes from a checkpoint writes them again."""
        while self.x and self.x[-1] >= x:
            self.x.pop()
            self.y.pop()
        self._waiting = [point for point in self._waiting if point[0] < x]
        self._waiting.append((x, y))
        if len(self._waiting) < self._group:
            return
        self._append(self._waiting)
        self._waiting = []
        if self.limit is not None and len(self.x) > self.limit:
            self._join()

    def points(self) -> tuple[list[float], list[float]]:
        """Return (x, y); the last point is the mean of the values that do not fill a point yet."""
        if not self._waiting:
            return self.x, self.y
        x, y = _mean(self._waiting)
        return [*self.x, x], [*self.y, y]

    def _append(self, points: list[tuple[float, float]]) -> None:
        x, y = _mean(points)
        self.x.append(x)
        self.y.append(y)

    def _join(self) -> None:
        points = list(zip(self.x, self.y, strict=True))
        self.x, self.y = [], []
        for start in range(0, len(points) - 1, 2):
            self._append(points[start : start + 2])
        if len(points) % 2:  # the odd one is half a point of the doubled group
            self._waiting = [points[-1]] * self._group
        self._group *= 2


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


class Metrics:
    """The scalars of a run.

    Args:
        file: metrics.json; one JSON object a line, as Detectron2 writes it. It need not exist yet.

    Attributes:
        series: series by name, of finite numbers only; x is the number of iterations done. Scores, whose names contain
            a "/", are not thinned out.
        last: the number of the last iteration, from 0; -1 before any.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.series: dict[str, Series] = {}
        self.last = -1
        self._read = 0  # number of bytes read, and of lines
        self._lines = 0

    def refresh(self) -> None:
        """Read what was written since the last call. A last line without a line end is left for the next call.

        Raises:
            ValueError: a line is not a JSON object.
        """
        if not self.file.exists():
            return
        with open(self.file, "rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._lines += 1
                self._add(self._row(line, self._lines))

    def _row(self, line: bytes, number: int) -> Mapping[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.file}, line {number}: not JSON ({error}). Is the file damaged?") from error
        if not isinstance(row, dict):
            raise ValueError(f"{self.file}, line {number}: found {row!r:.60}; it has to be a JSON object.")
        return row

    def _add(self, row: Mapping[str, Any]) -> None:
        iteration = row.get("iteration")
        if iteration is None:
            return
        done = int(iteration) + 1  # Detectron2 writes the number of the iteration, which begins at 0
        if any("/" not in name for name in row if name != "iteration"):
            self.last = int(iteration)
        elif iteration == self.last + 1:  # only scores, of the evaluation after the last iteration
            done = int(iteration)
        for name, value in row.items():
            if name != "iteration" and isinstance(value, (int, float)) and math.isfinite(value):
                if name not in self.series:
                    self.series[name] = Series(None if "/" in name else LIMIT)
                self.series[name].add(float(done), float(value))

    def scores(self) -> dict[str, dict[str, float]]:
        """Return {task: {metric: value}} of the last evaluation; with several data sets, keys are "data set/task"."""
        result: dict[str, dict[str, float]] = {}
        for name, series in self.series.items():
            if "/" in name and series.x:
                task, metric = name.rsplit("/", 1)
                result.setdefault(task, {})[metric] = series.y[-1]
        return result
