"""mIoU: Detectron2's evaluator, with its pixels counted by hotcoco where that is installed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils.file_io import PathManager
from PIL import Image

from mask2former.evaluation.fast import hotcoco


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's, with the same files and the same scores.

    A class that is predicted somewhere but nowhere in the ground truth counts as an IoU of 0, as Detectron2 has it.

    Raises:
        ValueError: :meth:`process` finds a label that is neither a class nor ignored (with hotcoco).
    """

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Count pixels; ``sem_seg`` of an output is [K, H, W], and its argmax is compared."""
        # Detectron2's main branch also counts boundaries, where OpenCV is there.
        if hotcoco() is None or getattr(self, "_compute_boundary_iou", False):
            super().process(inputs, outputs)
            return
        for one, output in zip(inputs, outputs, strict=True):
            predicted = output["sem_seg"].argmax(dim=0).cpu().numpy()
            truth = self._truth(one["file_name"])
            self._conf_matrix[:-1, :-1] += confusion(predicted, truth, self._num_classes, self._ignore_label)
            self._predictions.extend(self.encode_json_sem_seg(predicted, one["file_name"]))

    def _truth(self, file_name: str) -> np.ndarray:
        path = self.input_file_to_gt_file[file_name]
        if hasattr(self, "sem_seg_loading_fn"):  # Detectron2's main branch
            return self.sem_seg_loading_fn(path, dtype=np.int64)
        with PathManager.open(path, "rb") as file:
            return np.array(Image.open(file))


def confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int, ignore_label: int) -> np.ndarray:
    """[K, K] int64, pixels by predicted and true class. Needs hotcoco.

    Args:
        predicted: [H, W], classes in [0, K).
        truth: [H, W], classes in [0, K) or ``ignore_label``.
        num_classes: K.
        ignore_label: pixels that do not count.

    Raises:
        ImportError: hotcoco is not there.
        ValueError: another label.
    """
    fast = hotcoco()
    if fast is None:
        raise ImportError("hotcoco is not installed.")
    count = fast.semantic.SemanticEval(num_classes, ignore_index=ignore_label)
    count.update(np.ascontiguousarray(truth), np.ascontiguousarray(predicted))
    return count.confusion().T.astype(np.int64)
