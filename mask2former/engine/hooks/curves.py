"""Keep ``curves.html`` in the output folder up to date while the training runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from detectron2.engine import HookBase

from mask2former.dashboard.best_effort import BestEffort
from mask2former.dashboard.curves import write_curves
from mask2former.dashboard.series import Metrics


class CurvesHook(HookBase):
    """Write the page from metrics.json at most every ``seconds``, and at the end. It must come after the writers.

    It adds the scalar ``memory_gib``: the peak memory so far of the GPU's tensors or, without a GPU, of the process.

    Args:
        folder: the output folder.
        batch_size: images in an iteration, over all processes.
        seconds: least time between two pages.
        period: iterations between two measurements of the memory.
    """

    def __init__(self, folder: str, batch_size: int, seconds: float = 15.0, period: int = 20) -> None:
        self._folder = Path(folder)
        self._batch_size = batch_size
        self._seconds = seconds
        self._period = period
        self._metrics = Metrics(self._folder / "metrics.json")
        self._last = 0.0
        self._attempt = BestEffort("curves.html", "Is there room on the disk? metrics.json has the numbers.")

    def before_train(self) -> None:
        self._write(refresh=True)

    def before_step(self) -> None:
        if (self.trainer.iter + 1) % self._period == 0:  # in before_step, so that this iteration's writers see it
            self.trainer.storage.put_scalar("memory_gib", _memory(), smoothing_hint=False)

    def after_step(self) -> None:
        if time.perf_counter() - self._last >= self._seconds:
            self._write(refresh=True)

    def after_train(self) -> None:
        self._write(refresh=False)

    def _write(self, refresh: bool) -> None:
        self._attempt(self._write_page, refresh)
        self._last = time.perf_counter()

    def _write_page(self, refresh: bool) -> None:
        self._metrics.refresh()
        write_curves(
            self._folder / "curves.html",
            self._metrics,
            title=self._folder.resolve().name,
            max_iter=self.trainer.max_iter,
            batch_size=self._batch_size,
            refresh=self._seconds if refresh else None,
        )


def _memory() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return float("nan")  # reading it there needs another package; the page leaves it out
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
