"""mIoU: Detectron2's evaluator, with pixels counted and results encoded in a fraction of its time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils.file_io import PathManager
from PIL import Image

from mask2former.data.rle.encode import encode_labels
from mask2former.evaluation.rle_pairs import pair_runs
from mask2former.labels import argmax_labels


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's, with the same files and the same scores.

    A class that is predicted somewhere but nowhere in the ground truth counts as an IoU of 0, as Detectron2 has it.

    Raises:
        ValueError: :meth:`process` finds a label that is neither a class nor ignored, or another size.
    """

    @property
    def accepts_label_maps(self) -> bool:
        """See :func:`mask2former.evaluation.semantic_form.accepts_label_maps`."""
        # Detectron2's main branch also counts boundaries, where OpenCV is there; that is left to it.
        return not getattr(self, "_compute_boundary_iou", False)

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Count pixels; ``sem_seg`` of an output is scores [K, H, W], whose argmax is compared, or labels [H, W]."""
        if not self.accepts_label_maps:
            super().process(inputs, outputs)
            return
        for one, output in zip(inputs, outputs, strict=True):
            predicted = argmax_labels(output["sem_seg"]).cpu().numpy()
            path = self.input_file_to_gt_file[one["file_name"]]
            try:
                counts = confusion(predicted, self._truth(path), self._num_classes, self._ignore_label)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            self._conf_matrix[:-1, :-1] += counts
            self._predictions.extend(self.encode_json_sem_seg(predicted, one["file_name"]))

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict[str, Any]]:
        """COCO's format of results: run lengths of each class in ``sem_seg`` [H, W]."""
        ids = self._contiguous_id_to_dataset_id
        return [
            {
                "file_name": input_file_name,
                "category_id": label if ids is None else ids[label],
                "segmentation": run_lengths,
            }
            for label, run_lengths in encode_labels(sem_seg).items()
        ]

    def _truth(self, path: str) -> np.ndarray:
        if hasattr(self, "sem_seg_loading_fn"):  # Detectron2's main branch
            return self.sem_seg_loading_fn(path, dtype=np.int64)
        with PathManager.open(path, "rb") as file:
            return np.array(Image.open(file))


def confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int, ignore_label: int) -> np.ndarray:
    """[K, K] int64, pixels by predicted and true class.

    Args:
        predicted: [H, W], classes in [0, K).
        truth: [H, W], classes in [0, K) or ``ignore_label``.
        num_classes: K.
        ignore_label: pixels that do not count.

    Raises:
        ValueError: another label, or pictures of different sizes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"the prediction's (height, width) is {predicted.shape}, the ground truth's {truth.shape}")
    a, b = predicted.ravel(), truth.ravel()
    starts, lengths = pair_runs(a, b)
    labels, true_labels = a[starts].astype(np.int64), b[starts].astype(np.int64)
    counted = true_labels != ignore_label
    labels, true_labels, lengths = labels[counted], true_labels[counted], lengths[counted]
    strange = true_labels[(true_labels < 0) | (true_labels >= num_classes)]
    if len(strange):
        raise ValueError(
            f"found the label {strange[0]}; there are {num_classes} classes, and {ignore_label} is ignored."
        )
    pairs = np.bincount(labels * num_classes + true_labels, weights=lengths, minlength=num_classes**2)
    return pairs.astype(np.int64).reshape(num_classes, num_classes)
