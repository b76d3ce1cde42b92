"""Show the progress of an evaluation, whatever evaluates."""

from __future__ import annotations

import datetime
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from detectron2.utils import comm
from tqdm import tqdm

from mask2former.engine.logs import NOTICE, log_above_bar

logger = logging.getLogger(__name__)


class ShownLoader:
    """Yield the batches of a loader, and say how many have been evaluated and how much time is left.

    On a terminal that is a bar. Elsewhere it is a line after the first batch, one every ``seconds``, and one at the
    end. A batch counts as evaluated when the next one is asked for. Processes other than the main one show nothing.

    Args:
        loader: batches; it has a length, and usually one image a batch.
        name: the data set.
        seconds: between two lines.
        live: draw a bar; by default if standard error is a terminal.
    """

    def __init__(self, loader: Any, name: str, *, seconds: float = 20.0, live: bool | None = None) -> None:
        self.loader = loader
        self.name = name
        self._seconds = seconds
        self._live = sys.stderr.isatty() if live is None else live

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # while it is unpickled or copied
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        if not comm.is_main_process():
            return iter(self.loader)
        return self._with_bar() if self._live else self._with_lines()

    def _with_bar(self) -> Iterator[Any]:
        before = log_above_bar(True)
        try:
            yield from tqdm(
                self.loader, f"evaluating {self.name}", len(self), leave=False, unit="batch", dynamic_ncols=True
            )
        finally:
            log_above_bar(before)

    def _with_lines(self) -> Iterator[Any]:
        began = said = time.perf_counter()
        total = len(self)
        for done, batch in enumerate(self.loader, start=1):
            yield batch
            now = time.perf_counter()
            if done in (1, total) or now - said >= self._seconds:
                said = now
                logger.log(NOTICE, "%s", _line(done, total, now - began))


def _line(done: int, total: int, seconds: float) -> str:
    left = datetime.timedelta(seconds=round((total - done) * seconds / done))
    took = datetime.timedelta(seconds=round(seconds))
    return f"evaluated {done}/{total}, {f'{left} left' if done < total else f'in {took}'}"


def shown(loader: Iterable, name: str) -> Iterable:
    """Return the loader with its progress shown, if it says how long it is."""
    return ShownLoader(loader, name) if isinstance(loader, Sized) else loader
