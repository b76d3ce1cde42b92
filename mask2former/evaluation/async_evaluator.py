"""Scoring in the background, while the model predicts the next images."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances

from mask2former.evaluation.semantic_form import accepts_label_maps


class AsyncEvaluator(DatasetEvaluator):
    """Another evaluator, whose ``process`` runs in a thread of its own; one image after the other, in order.

    Results are the same. It gains where the model waits for a GPU; see docs/evaluation.md.

    Args:
        evaluator: any; under distributed evaluation each process has its own, as without this.
        limit: batches that may wait; when there are more, :meth:`process` waits, so that memory is bounded.

    Raises:
        ValueError: ``limit`` is less than 1.
    """

    def __init__(self, evaluator: DatasetEvaluator, limit: int = 4) -> None:
        if limit < 1:
            raise ValueError(f"AsyncEvaluator: limit is {limit}; at least one batch has to wait.")
        self.evaluator = evaluator
        self.limit = limit
        self._worker: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    @property
    def accepts_label_maps(self) -> bool:
        return accepts_label_maps(self.evaluator)

    def reset(self) -> None:
        self._stop()
        self.evaluator.reset()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="scoring")

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Copies the outputs to the CPU. Raises what scoring an earlier batch has raised."""
        if self._worker is None:
            raise RuntimeError("AsyncEvaluator: reset() comes before process().")
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= self.limit):
            self._take_first()
        facts = [{key: value for key, value in one.items() if key != "image"} for one in inputs]
        self._waiting.append(self._worker.submit(self.evaluator.process, facts, [on_cpu(one) for one in outputs]))

    def evaluate(self) -> Any:
        """The evaluator's scores, when all batches are done."""
        while self._waiting:
            self._take_first()
        self._stop()
        return self.evaluator.evaluate()

    def _take_first(self) -> None:
        try:
            self._waiting.popleft().result()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        """Forgets what waits and ends the thread."""
        self._waiting.clear()
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None


def on_cpu(value: Any) -> Any:
    """Tensors and Instances in dicts, lists and tuples, on the CPU; everything else as it is."""
    if isinstance(value, (torch.Tensor, Instances)):
        return value.to("cpu")
    if isinstance(value, Mapping):
        return {key: on_cpu(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(inner) for inner in value)
    return value
