"""A trainer that can be stopped at any step and goes on as if it had not been."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm
from torch import nn

from mask2former.dashboard.best_effort import BestEffort
from mask2former.data.train_stream import TrainLoader
from mask2former.engine.earlier_runs import set_aside
from mask2former.engine.hooks.best import BestHook
from mask2former.engine.hooks.checkpoints import CheckpointHook
from mask2former.engine.interruption import (
    SIGNALS,
    Interrupted,
    StopRequests,
    lost_processes_named,
    resume_command,
    stop_requests,
)
from mask2former.engine.last_good import save_last_good
from mask2former.engine.logs import NOTICE
from mask2former.engine.train_step import DivergedError, TrainStep
from mask2former.engine.zero_score import likely_reasons, scored_nothing
from mask2former.files import remove_leftovers

logger = logging.getLogger(__name__)


class _EarlyEnd(BaseException):
    """The end of a training before its last iteration; not an Exception, which Detectron2 would log as a failure."""


class ResumableTrainer(DefaultTrainer):
    """Detectron2's trainer with everything in its checkpoints that the next step depends on.

    A signal, an evaluation without a better score (``SOLVER.PATIENCE``) and a loss that is not finite end it in good
    order. Subclasses set ``cfg``, ``_trainer``, ``checkpointer``, ``start_iter`` and ``max_iter``, and call
    :meth:`_begin_stream`.
    """

    cfg: CfgNode
    _evaluated = 0  # iterations done at the last evaluation
    _seed: int

    def __init__(self) -> None:
        # Skip DefaultTrainer's __init__, which fixes the training step and the checkpointer.
        super(DefaultTrainer, self).__init__()
        self._stops = StopRequests()

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest whole checkpoint in ``OUTPUT_DIR`` if ``resume``; else load ``MODEL.WEIGHTS``."""
        if resume and comm.is_main_process():
            remove_leftovers(self.cfg.OUTPUT_DIR)
        super().resume_or_load(resume)

    def evaluate(self, model: nn.Module) -> dict[str, Any]:
        """Evaluate the training's result so far, once for each iteration, and note how good it is."""
        done = min(self.iter + 1, self.max_iter)
        if self._evaluated != done:
            self._last_eval_results = self.test(self.cfg, model)
            self._evaluated = done
            for hook in self._best:
                hook.note(self._last_eval_results, done)
            if done == self.max_iter and comm.is_main_process() and scored_nothing(self._last_eval_results):
                BestEffort("The reason for scores of 0", "report.html shows what was found.")(self._explain, model)
        return self._last_eval_results

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context of the number format in which the training computes."""
        return self._trainer.precision.autocast() if isinstance(self._trainer, TrainStep) else contextlib.nullcontext()

    def _explain(self, model: nn.Module) -> None:
        """Log why all scores are 0."""
        images = getattr(getattr(self.data_loader, "dataset", None), "__len__", lambda: 0)()
        report = getattr(self.checkpointer, "report", None)
        history = self.storage.histories().get("total_loss")
        reasons = likely_reasons(
            self.cfg,
            model,
            self.build_test_loader(self.cfg, self.cfg.DATASETS.TEST[0]),
            losses=[value for value, _ in history.values()] if history else [],
            shown=self.max_iter * self.cfg.SOLVER.IMS_PER_BATCH / images if images else math.inf,
            matched=report.lines()[0] if report is not None and self.cfg.MODEL.WEIGHTS else "",
        )
        listed = "".join(f"\n  - {one}" for one in reasons) or " none is known; report.html shows what was found."
        logger.warning("All scores are 0. Likely reasons, from what this run tells:%s", listed)

    @property
    def _best(self) -> list[BestHook]:  # none in a subclass with hooks of its own
        return [hook for hook in self._hooks if isinstance(hook, BestHook)]

    def train(self) -> dict[str, Any]:
        """Train from ``start_iter`` to the end; see :meth:`mask2former.engine.trainer.Trainer.train`."""
        if not self.start_iter:
            comm.synchronize()  # all have loaded their weights
            if comm.is_main_process():
                set_aside(self.cfg.OUTPUT_DIR, whole=False)
        for hook in self._best:
            hook.go_on(self.start_iter)
            if hook.exhausted():
                self.max_iter = self.start_iter
                logger.log(NOTICE, "%s. To go on: a higher SOLVER.PATIENCE.", hook.remark())
        with stop_requests() as self._stops:
            try:
                with lost_processes_named(), contextlib.suppress(_EarlyEnd):
                    super().train()
            except Interrupted as stop:
                comm.synchronize()  # a launcher ends the other processes as soon as one has ended
                logger.warning(
                    "%s: stopped after iteration %d of %d. To go on:\n  %s",
                    stop.signal.name,
                    min(self.iter + 1, self.max_iter),
                    self.max_iter,
                    resume_command(),
                )
                raise
            finally:
                if isinstance(self.data_loader, TrainLoader):
                    self.data_loader.close()
        return getattr(self, "_last_eval_results", {})

    def run_step(self) -> None:
        try:
            super().run_step()
        except DivergedError as error:
            raise DivergedError(f"{error} {save_last_good(self)}") from None

    def after_step(self) -> None:
        """Call the hooks; then stop if a signal asks for it, after saving what the next run needs."""
        try:
            super().after_step()
        except Interrupted as stop:  # an evaluation that was broken off
            self._stop(stop.signal)
        if self._evaluated == self.iter + 1 < self.max_iter:
            for hook in self._best:
                if hook.exhausted():
                    self._end_early(hook.remark())
        alone = comm.get_world_size() == 1
        agreed = self._votes() if alone else getattr(self._trainer, "agreed", ())  # alone, one during the hooks counts
        asked = [number for number, votes in zip(SIGNALS, agreed, strict=False) if votes]
        if asked and self.iter + 1 < self.max_iter:
            self._stop(asked[0])

    def _end_early(self, reason: str) -> None:
        self.max_iter = self.iter + 1  # the hooks then write what belongs to the end
        logger.log(NOTICE, "%s. The training ends here.", reason)
        for hook in self._hooks:
            if isinstance(hook, CheckpointHook):
                hook.after_step()
        raise _EarlyEnd

    def _stop(self, number: int) -> None:
        name = f"model_{self.iter:07d}"  # as of Detectron2's hook, which may just have saved it
        if getattr(self.checkpointer, "saved", "") != f"{name}.pth":
            self.checkpointer.save(name)
        raise Interrupted(number)

    def _votes(self) -> list[float]:
        return self._stops.votes()

    def _begin_stream(self, seed: int, start: int) -> None:
        """Let random numbers and images be those of a seed, the latter from batch ``start`` on."""
        self._seed = seed
        if isinstance(self._trainer, TrainStep):
            self._trainer.seed = seed
        if isinstance(self.data_loader, TrainLoader):
            self.data_loader.seed, self.data_loader.start = seed, start
        elif start:
            logger.warning(
                "The data loader cannot start at a given image, so images come from the beginning again. "
                "A loader from mask2former.data.loader.build_train_loader can."
            )

    # Detectron2 0.6 leaves the optimiser out of checkpoints. These methods include it, under the main branch's key.

    def state_dict(self) -> dict[str, Any]:
        stream = {"seed": self._seed, "images": (self.iter + 1) * self.cfg.SOLVER.IMS_PER_BATCH}
        return {**super().state_dict(), "_trainer": self._trainer.state_dict(), "stream": stream}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super(DefaultTrainer, self).load_state_dict(state_dict)
        batch = self.cfg.SOLVER.IMS_PER_BATCH
        seen = {"seed": self._seed, "images": (self.iter + 1) * batch} | state_dict.get("stream", {})
        self._begin_stream(seen["seed"], seen["images"] // batch)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        else:
            logger.warning(
                "The checkpoint holds no optimiser state (Detectron2 0.6 wrote none), so it starts from scratch."
            )
