"""Show the progress of a training."""

import datetime
import logging
import re
import sys
import time

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage
from tqdm import tqdm

from mask2former.engine.logs import NOTICE, log_above_bar

logger = logging.getLogger(__name__)

SMOOTHING = 20  # iterations over which the shown loss is a median and the shown speed a mean


class ProgressHook(HookBase):
    """Show a live bar on a terminal, plain lines elsewhere, both with loss, learning rate, speed and time left.

    A line is logged after the first iteration, then every ``period``. Without a bar, the
    terminal shows it too; in a quiet run the first, the last, and one every ``quiet_seconds`` at most.

    Args:
        batch_size: images in an iteration, over all processes.
        live: draw a bar; by default if standard error is a terminal.
    """

    def __init__(
        self, batch_size: int, period: int = 20, quiet_seconds: float = 20.0, live: bool | None = None
    ) -> None:
        self._batch_size = batch_size
        self._period = period
        self._quiet_seconds = quiet_seconds
        self._live = sys.stderr.isatty() if live is None else live
        self._bar: tqdm | None = None
        self._last_notice = 0.0
        self._began = 0.0

    def before_train(self) -> None:
        self._last_notice = self._began = time.perf_counter()
        if self._live:
            trainer = self.trainer
            self._bar = tqdm(
                total=trainer.max_iter, initial=trainer.start_iter, desc="training", unit="it", dynamic_ncols=True
            )
            log_above_bar(True)

    def after_step(self) -> None:
        done, total = self.trainer.iter + 1, self.trainer.max_iter
        if self._bar is not None:
            self._bar.set_postfix_str(self._short_state(), refresh=False)
            self._bar.update(1)
        first = done == self.trainer.start_iter + 1
        if first or done % self._period == 0 or done == total:
            logger.log(self._level(always=first or done == total), "%s", self._line(done, total))

    def after_train(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            log_above_bar(False)

    def _level(self, always: bool) -> int:
        if self._bar is not None:
            return logging.DEBUG  # to the file only
        if not always and time.perf_counter() - self._last_notice < self._quiet_seconds:
            return logging.INFO
        self._last_notice = time.perf_counter()
        return NOTICE

    def _short_state(self) -> str:
        losses = self.trainer.storage.histories().get("total_loss")  # none yet if the first steps were left out
        loss = losses.median(SMOOTHING) if losses else float("nan")
        seconds = self._seconds()
        return f"loss {loss:.3f}, lr {self._learning_rate():.2e}, {self._batch_size / seconds:.1f} images/s"

    def _line(self, done: int, total: int) -> str:
        storage: EventStorage = self.trainer.storage
        # Losses of earlier decoder layers (names that end in a number) are left to metrics.json.
        parts = " ".join(
            f"{name.removeprefix('loss_')} {history.median(SMOOTHING):.3f}"
            for name, history in storage.histories().items()
            if name.startswith("loss_") and not re.search(r"_\d+$", name)
        )
        seconds = self._seconds()
        left = f", {datetime.timedelta(seconds=int((total - done) * seconds))} left"
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        return f"iteration {done}/{total}, {self._short_state()}{memory}{left} ({parts})"

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.trainer.optimizer.param_groups)

    def _seconds(self) -> float:
        """Return the seconds of an iteration; the first few, which Detectron2's timer leaves out, are timed here."""
        histories = self.trainer.storage.histories()
        if "time" in histories:
            return histories["time"].avg(SMOOTHING)
        return (time.perf_counter() - self._began) / (self.trainer.iter + 1 - self.trainer.start_iter)
