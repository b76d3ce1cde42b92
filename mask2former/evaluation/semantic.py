"""mIoU by Detectron2's evaluator, but counting pixels and encoding results in a fraction of its time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator, SemSegEvaluator

from mask2former.data.images.read import read_labels
from mask2former.data.rle.encode import encode_labels
from mask2former.evaluation.handover import OnImage, SemanticImage
from mask2former.evaluation.pixel_counts import boundary_confusion, confusion
from mask2former.evaluation.rehearsal import size_of
from mask2former.evaluation.semantic_form import predicted_labels

logger = logging.getLogger(__name__)


class FastCounts(DatasetEvaluator):
    """Count and encode fast, and leave the scores to the ``SemSegEvaluator`` that follows in the bases.

    Detectron2 0.6 and its main branch differ in that class. Each keeps its own mean of IoU, files and names of
    scores; docs/evaluation.md explains the difference. The main branch always counts boundaries too; here they are
    counted on request.

    Args:
        dataset_name, distributed, output_dir: see ``SemSegEvaluator``.
        boundary_iou: score Boundary IoU too, as the main branch does. If the installed Detectron2 does not offer it
            (0.6 never; the main branch not for 255 classes and more), it is left out with a warning.
        sem_seg_loading_fn: called as on the main branch, ``(path, dtype=int)``, returns the ground truth of an image,
            [H, W] integers. None: read the labels from the image file.
        options: further options of the ``SemSegEvaluator`` that follows.

    Attributes:
        on_image: called with the labels and counts of each image; None: not called.

    Raises:
        ValueError: from :meth:`process`, for a label that is neither a class nor ignored, or another size.
    """

    on_image: OnImage | None = None

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        boundary_iou: bool = False,
        sem_seg_loading_fn: Callable[..., np.ndarray] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(dataset_name, distributed, output_dir, **options)
        # Not the main branch's own function, which fails with NumPy 2.
        self._load = partial(sem_seg_loading_fn, dtype=int) if sem_seg_loading_fn else read_labels
        offered = getattr(self, "_compute_boundary_iou", False)
        if boundary_iou and not offered:
            logger.warning(
                "TEST.BOUNDARY_IOU is on, but Boundary IoU is not scored on %s (%d classes): it needs Detectron2's "
                "main branch (0.6 has no such score) and fewer than 255 classes.",
                dataset_name,
                self._num_classes,
            )
        self._compute_boundary_iou = boundary_iou and offered  # the main branch's evaluate() reads this name

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Count pixels by the argmax of ``sem_seg`` scores [K, H, W] or by ``sem_seg_labels`` [H, W]."""
        for one, output in zip(inputs, outputs, strict=True):
            path = self.input_file_to_gt_file[one["file_name"]]
            try:
                predicted = predicted_labels(output)
                truth = self._load(path)
                counts = confusion(predicted, truth, self._num_classes, self._ignore_label)
            except ValueError as error:
                text = str(error)
                raise ValueError(text if text.startswith(path) else f"{path}: {text}") from error
            self._conf_matrix[:-1, :-1] += counts
            if self._compute_boundary_iou:
                self._b_conf_matrix += boundary_confusion(predicted, truth, self._num_classes, self._ignore_label)
            if self.on_image:
                self.on_image(SemanticImage(one["file_name"], counts, truth, predicted, self._ignore_label))
            self._predictions.extend(self.encode_json_sem_seg(predicted, one["file_name"]))

    def counts(self) -> dict[str, Any]:
        """Return what was counted since ``reset``, for JSON."""
        matrices = {"pixels": self._conf_matrix.tolist()}
        if self._compute_boundary_iou:
            matrices["boundaries"] = self._b_conf_matrix.tolist()
        return {**matrices, "predictions": self._predictions}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Add what :meth:`counts` gave."""
        self._conf_matrix += np.array(counts["pixels"], self._conf_matrix.dtype)
        if self._compute_boundary_iou:
            self._b_conf_matrix += np.array(counts["boundaries"], self._b_conf_matrix.dtype)
        self._predictions += counts["predictions"]

    def rehearse(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Score a map of the first class of one image; see :mod:`mask2former.evaluation.rehearsal`.

        Raises:
            ValueError: the ground truth of this image has a fault.
        """
        labels = torch.zeros(size_of(records[0]), dtype=torch.int16)
        self.process([records[0]], [{"sem_seg_labels": labels}])

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict[str, Any]]:
        """Convert labels [H, W] to COCO's format of results: the run lengths of each class."""
        ids = self._contiguous_id_to_dataset_id
        return [
            {
                "file_name": input_file_name,
                "category_id": label if ids is None else ids.get(label, label),  # it may list the stuff alone
                "segmentation": run_lengths,
            }
            for label, run_lengths in encode_labels(sem_seg).items()
        ]


class SemanticEvaluator(FastCounts, SemSegEvaluator):
    """The installed Detectron2's evaluator with its files and scores, but faster; see :class:`FastCounts`."""

    accepts_label_maps = True
