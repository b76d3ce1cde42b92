"""Read finished or running trainings and evaluations from their output folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mask2former.dashboard.series import Metrics
from mask2former.evaluation.scores import HEADLINES

EVALUATED = "config_evaluated.yaml"  # of the last evaluation, where config.yaml stays that of the model


class Run:
    """A training or evaluation, read from its output folder.

    Attributes:
        folder: the output folder.
        metrics: metrics of the training; empty if there was none.
        config: {dotted key: value} of the last evaluation or, if it has none of its own, of the training; empty
            without config.yaml.

    Raises:
        FileNotFoundError: the folder does not exist, or holds neither metrics.json nor scores.json.
        ValueError: one of its files is malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [folder / "metrics.json", *_score_files(folder)]
        if not any(file.exists() for file in files):
            raise FileNotFoundError(
                f"{folder} is not an output folder of a training or evaluation: "
                "it holds no metrics.json or scores.json."
            )
        self.metrics = Metrics(files[0])
        self.metrics.refresh()
        evaluated = folder / EVALUATED
        config = evaluated if evaluated.exists() else folder / "config.yaml"
        self.config = dict(_flat(_load_yaml(config))) if config.exists() else {}

    @property
    def batch_size(self) -> int | None:
        return self.config.get("SOLVER.IMS_PER_BATCH")

    @property
    def max_iter(self) -> int | None:
        return self.config.get("SOLVER.MAX_ITER")

    def headlines(self) -> dict[str, float]:
        """Return {usual name: percent} of the last evaluation, from scores.json if there is one."""
        result = headlines(self.metrics.scores())
        for file in _score_files(self.folder):
            result.update(headlines(json.loads(file.read_text()), file.stem.removeprefix("scores").strip("_")))
        return result


def headlines(scores: Mapping[str, Mapping[str, float]], prefix: str = "") -> dict[str, float]:
    """Return the main scores from {"task" or "data set/task": {metric: value}}, in the order of ``HEADLINES``.

    Args:
        prefix: put before the names, followed by ": ".
    """
    result = {}
    for task, values in scores.items():
        dataset, _, plain = task.rpartition("/")
        before = "".join(f"{part}: " for part in (prefix, dataset) if part)
        for (of_task, metric), name in HEADLINES.items():
            if of_task == plain and metric in values:
                result[before + name] = values[metric]
    order = list(dict.fromkeys(HEADLINES.values()))
    return dict(sorted(result.items(), key=lambda item: order.index(item[0].rsplit(": ", 1)[-1])))


def _score_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("scores*.json"))


def _load_yaml(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not a configuration ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: found a {type(content).__name__}; a configuration is a mapping.")
    return content


def _flat(node: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    result: list[tuple[str, Any]] = []
    for key, value in node.items():
        if isinstance(value, dict) and value:
            result += _flat(value, f"{before}{key}.")
        else:
            result.append((f"{before}{key}", value))
    return result
