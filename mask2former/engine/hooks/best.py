"""Keep the weights of the best evaluation, and tell when the scores have stopped to rise."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.evaluation.scores import summarize
from mask2former.files import write_text

logger = logging.getLogger(__name__)
FILE = "best.json"


class BestHook(HookBase):
    """Save ``model_best.pth``, the weights alone, after an evaluation with the highest score so far.

    All scores are in ``best.json`` beside it. A training that resumes goes on with those up to its checkpoint.

    Args:
        checkpointer: saves the weights.
        model: has them.
        metric: name of the score, such as ``"segm/AP50"``; "": the first one of the scores that are shown: PQ, mask AP
            or mIoU, by task, of the first data set.
        patience: number of evaluations in a row without a better score after which the training should end; 0: never.
        save: False: note the scores only, for trainings that are evaluated once, at their end.

    Attributes:
        scores: (iterations done, score) of each evaluation; on the main process only.
    """

    def __init__(
        self,
        checkpointer: MaskFormerCheckpointer,
        model: nn.Module,
        *,
        metric: str = "",
        patience: int = 0,
        save: bool = True,
    ) -> None:
        self._checkpointer = checkpointer
        self._model = model
        self._metric = metric
        self._patience = patience
        self._save = save
        self._file = Path(checkpointer.save_dir, FILE)
        self.scores: list[tuple[int, float]] = []

    def go_on(self, start_iter: int) -> None:
        """Take up the scores of a training's first ``start_iter`` iterations."""
        if comm.is_main_process():
            known = json.loads(self._file.read_text())["scores"] if start_iter and self._file.is_file() else []
            self.scores = [(done, -math.inf if score is None else score) for done, score in known if done <= start_iter]

    def note(self, results: Mapping[str, Any], done: int) -> None:
        """Compare an evaluation's scores with those before.

        Args:
            results: as :meth:`mask2former.engine.trainer.Trainer.test` returns them.
            done: number of iterations of the evaluated weights.
        """
        if not comm.is_main_process() or not results:
            return
        found = score_of(results, self._metric)
        if found is None:
            logger.warning(
                "TEST.BEST_METRIC %r is none of the scores, so the best weights are not kept. Choose from: %s.",
                self._metric,
                ", ".join(flatten_results_dict(results)),
            )
            return
        name, score = found
        self.scores = [one for one in self.scores if one[0] < done]
        if math.isnan(score):
            score = -math.inf
        best = max((one for _, one in self.scores), default=-math.inf)
        self.scores.append((done, score))
        if self._save and score > best:
            self._checkpointer.save_weights("model_best", self._model)
            logger.info("The best %s so far: %.2f; saved as model_best.pth.", name, score)
        facts = {"metric": name, "scores": [(at, one if math.isfinite(one) else None) for at, one in self.scores]}
        write_text(self._file, json.dumps(facts, indent=1))

    def exhausted(self) -> bool:
        """Tell whether the scores have not risen for as long as the patience lasts; the same on all processes."""
        if not self._patience:
            return False
        return any(comm.all_gather(bool(self.scores) and self._waited() >= self._patience))

    def remark(self) -> str:
        """Return the reason for an end, on the main process."""
        if not self.scores:
            return ""
        done, score = max(self.scores, key=lambda one: (one[1], -one[0]))
        return (
            f"No better score in {self._waited()} evaluations (SOLVER.PATIENCE {self._patience}): "
            f"the best was {score:.2f} after {done} iterations"
        )

    def _waited(self) -> int:
        values = [score for _, score in self.scores]
        return len(values) - 1 - values.index(max(values))


def score_of(results: Mapping[str, Any], metric: str = "") -> tuple[str, float] | None:
    """Return (name, value) of a metric, or of the first one that people compare; None if it is not there.

    Args:
        results: {task: {metric: value}}, or {data set: that}.
        metric: "task/metric" or "data set/task/metric"; "": the first.
    """
    flat = flatten_results_dict(results)
    if metric:
        return (metric, float(flat[metric])) if metric in flat else None
    named = summarize(results) or list(flat.items())
    return (named[0][0], float(named[0][1])) if named else None
