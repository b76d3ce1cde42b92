"""Runs beside the scorers on the same outputs and counts what a report tells beyond their scores."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.data.catalog import Metadata
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from mask2former.dashboard.error_types import judge
from mask2former.dashboard.gallery import Example, Gallery, Packed, shrunk
from mask2former.dashboard.overlaps import mask_overlaps, panoptic_overlaps, run_lengths
from mask2former.dashboard.tally import PixelTally, SegmentTally
from mask2former.data.mapper.annotations import instance_objects
from mask2former.data.mapper.image_io import read_labels, read_panoptic_ids
from mask2former.visualization import RESULTS, Region, class_map_regions, make_region, panoptic_regions, result_of

logger = logging.getLogger(__name__)

CONFIDENT = 0.5  # least score of the instances that are counted and drawn
PANOPTIC_FILE = "pan_seg_file_name"  # key of a record that has a panoptic annotation

Record = dict[str, Any]
Regions = tuple[list[Region], list[Region]]


@dataclass
class Findings:
    """What a collector has counted.

    Attributes:
        panoptic, instance, semantic: None where the task is not on.
        gallery: of the first task of these that is on.
        images: how many.
    """

    panoptic: SegmentTally | None
    instance: SegmentTally | None
    semantic: PixelTally | None
    gallery: Gallery
    images: int = 0

    def __iadd__(self, other: Findings) -> Findings:
        for task in RESULTS:
            if getattr(self, task) is not None:
                getattr(self, task).__iadd__(getattr(other, task))
        self.gallery.take([other.gallery])
        self.images += other.images
        return self


class Collector(DatasetEvaluator):
    """Counts, over all processes, into :class:`Findings`, which does not grow with the data set.

    Instances of a score below 0.5 are left out here: people do not look at them, though average precision does.
    Images without a panoptic annotation are left out of the panoptic counts, as panoptic quality leaves them out.

    Args:
        records: the data set's dicts with their annotations.
        metadata: of the data set.
        tasks: those of "panoptic", "instance" and "semantic" that the model gives and the records are annotated for.
        examples: how many of the best and of the worst images are kept.
    """

    def __init__(self, records: Sequence[Record], metadata: Metadata, tasks: Sequence[str], examples: int = 6) -> None:
        self.metadata = metadata
        self.tasks = list(tasks)
        self.examples = examples
        self._records = DatasetFromList(list(records), serialize=True)  # annotations as bytes take far less memory
        self._places = {record["file_name"]: place for place, record in enumerate(records)}
        if "panoptic" in self.tasks and (without := sum(PANOPTIC_FILE not in record for record in records)):
            logger.warning(
                "%d of %d images have no panoptic annotation: the report's panoptic counts leave them out.",
                without,
                len(records),
            )
        self.reset()

    def reset(self) -> None:
        instance_only = self.tasks == ["instance"]
        names = self.metadata.get("thing_classes" if instance_only else "stuff_classes")
        tallies = {task: SegmentTally.empty(len(names)) for task in ("panoptic", "instance") if task in self.tasks}
        self.findings = Findings(
            panoptic=tallies.get("panoptic"),
            instance=tallies.get("instance"),
            semantic=PixelTally.empty(len(names)) if "semantic" in self.tasks else None,
            gallery=Gallery(self.examples),
        )

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        counters = {"panoptic": self._panoptic, "instance": self._instance, "semantic": self._semantic}
        for one, output in zip(inputs, outputs, strict=True):
            record = self._records[self._places[one["file_name"]]]
            self.findings.images += 1
            for task in self.tasks:
                try:
                    counters[task](record, result_of(output, task), task == self.tasks[0])
                except ValueError as error:
                    raise ValueError(f"{record['file_name']}, {task} ground truth: {error}") from error

    def evaluate(self) -> Findings | None:
        """None on other processes than the first."""
        own, *others = comm.gather(self.findings) or [None]
        for other in others:
            own += other
        return own

    def _panoptic(self, record: Record, output: tuple[torch.Tensor, list[dict[str, Any]]], show: bool) -> None:
        if PANOPTIC_FILE not in record:
            return
        ids, segments = output[0].cpu().numpy(), output[1]
        true_ids, true_segments = read_panoptic_ids(record[PANOPTIC_FILE]), record["segments_info"]
        overlaps = panoptic_overlaps(true_ids, true_segments, ids, segments)
        quality = _require(self.findings.panoptic).add(overlaps, judge(overlaps))

        def regions(rows: np.ndarray, columns: np.ndarray) -> Regions:
            drawn = ((true_ids, true_segments), (ids, segments))
            truth, found = (
                panoptic_regions(torch.from_numpy(_pick(i, rows, columns).astype(np.int64)), s, self.metadata)
                for i, s in drawn
            )
            return truth, found

        if show:
            self._offer(record, quality, ids.shape, regions)

    def _instance(self, record: Record, output: Instances, show: bool) -> None:
        best = output.scores.argsort(descending=True)
        found = output[best[output.scores[best] >= CONFIDENT]].to("cpu")
        num_classes = len(_require(self.findings.instance).matched)
        size = output.image_size
        annotations = record["annotations"]
        classes, masks = instance_objects(record, size, num_classes).to_masks()
        crowds = [{**a, "iscrowd": 0} for a in annotations if a.get("iscrowd", 0)]
        crowd_classes, crowd_masks = instance_objects({**record, "annotations": crowds}, size, num_classes).to_masks()
        found_masks = found.pred_masks.numpy().astype(bool, copy=False)
        overlaps = mask_overlaps(
            run_lengths(masks.numpy()),
            classes.numpy(),
            run_lengths(found_masks),
            found.pred_classes.numpy(),
            run_lengths(crowd_masks.numpy()),
            crowd_classes.tolist(),
        )
        quality = _require(self.findings.instance).add(overlaps, judge(overlaps))

        def regions(rows: np.ndarray, columns: np.ndarray) -> Regions:
            true = zip(masks.numpy(), classes.tolist(), [None] * len(classes), strict=True)
            seen = zip(found_masks, found.pred_classes.tolist(), found.scores.tolist(), strict=True)
            truth, drawn = (
                [make_region(_pick(mask, rows, columns), k, True, self.metadata, score) for mask, k, score in objects]
                for objects in (true, seen)
            )
            return truth, drawn

        if show:
            self._offer(record, quality, size, regions)

    def _semantic(self, record: Record, output: torch.Tensor, show: bool) -> None:
        ignored = self.metadata.get("ignore_label", 255)
        truth, found = read_labels(record["sem_seg_file_name"]), output.cpu().numpy()
        quality = _require(self.findings.semantic).add(truth, found, ignored)

        def regions(rows: np.ndarray, columns: np.ndarray) -> Regions:
            drawn = []
            for labels in (truth, found):
                small = _pick(labels, rows, columns).astype(np.int64)
                asked = small != ignored
                shown = class_map_regions(np.where(asked, small, 0), self.metadata)
                cut = [dataclasses.replace(region, mask=region.mask & asked) for region in shown]
                drawn.append([region for region in cut if region.mask.any()])
            return drawn[0], drawn[1]

        if show:
            self._offer(record, quality, truth.shape, regions)

    def _offer(self, record: Record, quality: float | None, size: tuple[int, ...], regions: Any) -> None:
        if quality is None:
            return

        def make() -> Example:
            rows, columns = shrunk((size[0], size[1]))
            truth, found = regions(rows, columns)
            return Example(record["file_name"], quality, (len(rows), len(columns)), Packed(truth), Packed(found))

        self.findings.gallery.offer(quality, make)


def _pick(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Of [..., H, W]; where all are wanted, the array itself."""
    if array.shape[-2:] == (len(rows), len(columns)):
        return array
    return array[..., rows, :][..., columns]


def _require(tally: Any) -> Any:
    if tally is None:
        raise RuntimeError("a task is counted that is not on")
    return tally
