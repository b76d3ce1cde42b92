"""Write the scalars of a training, each iteration once however often it was interrupted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventWriter

from mask2former.files import whole_file

logger = logging.getLogger(__name__)


class WritersHook(PeriodicWriter):
    """Open the writers when the training begins: by then it is known where it begins.

    Args:
        build: returns the writers.
        period: iterations between two lines.
    """

    def __init__(self, build: Callable[[], list[EventWriter]], period: int = 20) -> None:
        super().__init__([], period)
        self._build = build

    def before_train(self) -> None:
        self._writers = self._build()


def drop_rows_from(file: str | Path, iteration: int, keep_last_scores: bool = False) -> int:
    """Remove the lines of a metrics.json from an iteration on, which the training will write anew; return how many.

    Args:
        file: one JSON object a line; it need not exist. Lines that are none are left for the reader to complain of.
        iteration: the first one of the training that begins.
        keep_last_scores: keep a line of scores alone at that iteration, where a shorter training was evaluated at its
            end.
    """
    file = Path(file)
    if not file.is_file():
        return 0
    lines = file.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _stays(line, iteration, keep_last_scores)]
    if len(kept) < len(lines):
        with whole_file(file) as out:
            out.writelines(kept)
        logger.debug("%d lines of %s are of iterations that come again.", len(lines) - len(kept), file)
    return len(lines) - len(kept)


def _stays(line: bytes, iteration: int, keep_last_scores: bool) -> bool:
    try:
        row = json.loads(line)
        its = int(row["iteration"])
    except (ValueError, KeyError, TypeError):
        return True
    only_scores = all("/" in name for name in row if name != "iteration")
    return its < iteration or (keep_last_scores and its == iteration and only_scores)
