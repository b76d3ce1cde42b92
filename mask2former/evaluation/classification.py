"""Score the classes of whole images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

TOP = (1, 5)


class ClassificationEvaluator(DatasetEvaluator):
    """Count images whose class is among the k that the model holds the most probable; k is 1 and 5.

    Images may be shared out among processes.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._images = 0
        self._right = dict.fromkeys(TOP, 0)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Count images; inputs have ``class_id``, outputs ``class_scores`` [K]."""
        for record, output in zip(inputs, outputs, strict=True):
            scores = output["class_scores"]
            # Of equal scores the wrong ones come first: a network that tells nothing apart gets nothing.
            before = int((scores >= scores[record["class_id"]]).sum()) - 1
            if not torch.isfinite(scores).all():
                raise ValueError(f"{record['file_name']}: the model's class scores are not finite.")
            self._images += 1
            for k in TOP:
                self._right[k] += before < k

    def counts(self) -> dict[str, Any]:
        return {"images": self._images, **{str(k): right for k, right in self._right.items()}}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        self._images += counts["images"]
        for k in TOP:
            self._right[k] += counts[str(k)]

    def evaluate(self) -> dict[str, Any] | None:
        """Return {"classification": {"top1": percent, "top5": percent}} in the main process.

        Raises:
            ValueError: no image was counted.
        """
        parts = comm.gather(self.counts())
        if not comm.is_main_process():
            return None
        images = sum(part["images"] for part in parts)
        if not images:
            raise ValueError("There is no image to score.")
        scores = {f"top{k}": 100 * sum(part[str(k)] for part in parts) / images for k in TOP}
        return OrderedDict({"classification": scores})
