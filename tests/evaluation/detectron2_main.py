"""A stand-in for SemSegEvaluator of Detectron2's main branch (June 2026), which cannot be installed beside 0.6.

It has that class's names and behaviour, as far as they differ from 0.6's, written anew and for being obvious: pixel by
pixel. What the main branch does by accident is here on purpose: its boundary maps are differences of class numbers, and
its pairs of them are added up in a byte.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from PIL import Image

MOST_CLASSES = 254  # with boundaries


def load(path, copy=None, dtype=None):
    return np.array(Image.open(path), copy=copy, dtype=dtype)


class MainSemSegEvaluator(DatasetEvaluator):
    def __init__(
        self,
        dataset_name,
        distributed=True,
        output_dir=None,
        *,
        sem_seg_loading_fn=load,
        num_classes=None,
        ignore_label=None,
    ):
        metadata = MetadataCatalog.get(dataset_name)
        self._logger = logging.getLogger(__name__)
        self._dataset_name, self._distributed, self._output_dir = dataset_name, distributed, output_dir
        self._cpu_device = torch.device("cpu")
        self.input_file_to_gt_file = {
            record["file_name"]: record["sem_seg_file_name"] for record in DatasetCatalog.get(dataset_name)
        }
        ids = metadata.get("stuff_dataset_id_to_contiguous_id")
        self._contiguous_id_to_dataset_id = None if ids is None else {label: id_ for id_, label in ids.items()}
        self._class_names = metadata.stuff_classes
        self._num_classes = num_classes or len(metadata.stuff_classes)
        self._ignore_label = metadata.ignore_label if ignore_label is None else ignore_label
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self._compute_boundary_iou = self._num_classes <= MOST_CLASSES

    def reset(self):
        side = self._num_classes + 1
        self._conf_matrix = np.zeros((side, side), np.int64)
        self._b_conf_matrix = np.zeros((side, side), np.int64)
        self._predictions = []

    def process(self, inputs, outputs):
        side = self._num_classes + 1
        for one, output in zip(inputs, outputs, strict=True):
            predicted = output["sem_seg"].argmax(0).numpy()
            truth = self.sem_seg_loading_fn(self.input_file_to_gt_file[one["file_name"]], dtype=int)
            truth = np.where(truth == self._ignore_label, self._num_classes, truth)
            for p, t in zip(predicted.flat, truth.flat, strict=True):
                self._conf_matrix[p, t] += 1
            if self._compute_boundary_iou:
                for p, t in zip(slow_boundary(predicted).flat, slow_boundary(truth).flat, strict=True):
                    place = (side * int(p) + int(t)) % 256  # NumPy keeps to the byte that OpenCV wanted
                    self._b_conf_matrix[divmod(place, side)] += 1
            self._predictions.append(one["file_name"])

    def evaluate(self):
        folder = self._output_dir and Path(self._output_dir)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "sem_seg_predictions.json").write_text(json.dumps(self._predictions))
        classes = range(self._num_classes)
        iou = [overlap(self._conf_matrix, c) if self._conf_matrix[:-1, c].any() else math.nan for c in classes]
        accuracy = [share(self._conf_matrix[c, c], self._conf_matrix[:-1, c].sum()) for c in classes]
        counted = self._conf_matrix[:-1, :-1]
        scores = {
            "mIoU": 100 * np.nanmean(iou),
            "fwIoU": 100 * np.nansum(np.array(iou) * counted.sum(0)) / counted.sum(),
            "mACC": 100 * np.nanmean(accuracy),
            "pACC": 100 * counted.trace() / counted.sum(),
        }
        for c, name in enumerate(self._class_names):
            scores[f"IoU-{name}"] = 100 * iou[c]
            scores[f"ACC-{name}"] = 100 * accuracy[c]
            if self._compute_boundary_iou:
                outline = overlap(self._b_conf_matrix, c)
                scores[f"BoundaryIoU-{name}"] = 100 * outline
                scores[f"min(IoU, B-Iou)-{name}"] = 100 * min(iou[c], outline)
        return {"sem_seg": scores}


def slow_boundary(labels):
    """Label minus the least label in a square, zero beyond the image, whose half side is 2 % of the diagonal."""
    height, width = labels.shape
    reach = max(1, round(0.02 * math.sqrt(height**2 + width**2)))
    result = np.zeros_like(labels)
    for y, x in np.ndindex(labels.shape):
        square = labels[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        inside = reach <= y < height - reach and reach <= x < width - reach
        result[y, x] = labels[y, x] - (square.min() if inside else 0)
    return result


def overlap(matrix, c):
    """IoU of class c among all classes but the last."""
    return share(matrix[c, c], matrix[:-1, c].sum() + matrix[c, :-1].sum() - matrix[c, c])


def share(part, whole):
    return float(part) / float(whole) if whole else math.nan
