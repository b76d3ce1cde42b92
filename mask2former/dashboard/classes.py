"""The table of classes: the scores and counts of each task that was evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mask2former.dashboard.collector import Findings
from mask2former.dashboard.tally import SegmentTally

TITLES = {
    "PQ": "panoptic quality: SQ times RQ",
    "SQ": "segmentation quality: mean IoU of the matched segments",
    "RQ": "recognition quality: F1 of finding segments",
    "AP": "average precision of masks, mean over IoU 0.5 to 0.95",
    "AP50": "average precision at IoU 0.5",
    "AP75": "average precision at IoU 0.75",
    "APs": "average precision of objects below 32 x 32 pixels",
    "APm": "average precision of objects of 32 x 32 to 96 x 96 pixels",
    "APl": "average precision of objects above 96 x 96 pixels",
    "IoU": "pixels in common / pixels of either",
    "Dice": "2 x pixels in common / sum of the pixels of both",
    "precision": "share of predictions that are right",
    "recall": "share of the ground truth that was found",
    "true": "how many there are in the ground truth",
    "found": "how many were found",
    "pixels": "how many there are in the ground truth",
    "followed": "share of the ground truth's masks that a track follows in the frame",
    "switches": "frames in which another track follows an object than before",
}


@dataclass(frozen=True)
class Column:
    """One number for each class.

    Attributes:
        group: the task.
        name: a key of ``TITLES``.
        values: [K]; shares in [0, 1], or counts (integers).
    """

    group: str
    name: str
    values: np.ndarray

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def is_share(self) -> bool:
        return self.values.dtype.kind == "f"


def columns(findings: Findings, average_precision: Mapping[str, np.ndarray]) -> list[Column]:
    """Return the columns of all tasks: panoptic, instance, semantic.

    Args:
        average_precision: {"AP" ...: [K]} of the instances; empty if they were not scored.
    """
    result = []
    if findings.panoptic is not None:
        result += [Column("panoptic", name, values) for name, values in findings.panoptic.quality().items()]
        result += _counts("panoptic", findings.panoptic)
    if findings.instance is not None:
        quality = findings.instance.quality()
        values = {**average_precision, "precision": quality["precision"], "recall": quality["recall"]}
        result += [Column("instance", name, numbers) for name, numbers in values.items()]
        result += _counts("instance", findings.instance)
    if findings.semantic is not None:
        result += [Column("semantic", name, values) for name, values in findings.semantic.quality().items()]
        result.append(Column("semantic", "pixels", findings.semantic.confusion.sum(1)))
    return result


def present(table: list[Column]) -> np.ndarray:
    """Return which classes are in the ground truth or in the results, bool [K]."""
    counts = [column.values > 0 for column in table if not column.is_share]
    return np.any(counts, axis=0) if counts else np.zeros(0, bool)


def _counts(group: str, tally: SegmentTally) -> list[Column]:
    true, found = tally.matched + tally.unmatched, tally.matched + tally.spurious
    return [Column(group, "true", true), Column(group, "found", found)]
