"""Counts over all images; their size does not grow with the number of images. Tallies of processes add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mask2former.dashboard.error_types import KINDS, Judgement, Kind
from mask2former.evaluation.overlaps import Overlaps

# Segments by size: the side, in pixels, of a square of their area; the last one is open.
SIDES = (0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass
class SegmentTally:
    """Counts of the segments of K classes.

    Attributes:
        matched, spurious, unmatched: [K] int64: true positives, false positives, false negatives.
        iou: [K] float64, summed over the matched pairs.
        confusion: [K + 1, K + 1] int64, true class by found class. Row K: found segments paired with no true one (IoU
            above 0.5); column K: true segments paired with no found one.
        kinds: [len(KINDS), K] int64, kinds of error by found class; by true class for the missed.
        by_size: [3, len(SIDES)] float64: true segments, matched ones, their summed IoU.
    """

    matched: np.ndarray
    spurious: np.ndarray
    unmatched: np.ndarray
    iou: np.ndarray
    confusion: np.ndarray
    kinds: np.ndarray
    by_size: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> SegmentTally:
        return cls(
            matched=np.zeros(num_classes, np.int64),
            spurious=np.zeros(num_classes, np.int64),
            unmatched=np.zeros(num_classes, np.int64),
            iou=np.zeros(num_classes),
            confusion=np.zeros((num_classes + 1, num_classes + 1), np.int64),
            kinds=np.zeros((len(KINDS), num_classes), np.int64),
            by_size=np.zeros((3, len(SIDES))),
        )

    def __iadd__(self, other: SegmentTally) -> SegmentTally:
        for name, value in vars(other).items():
            getattr(self, name).__iadd__(value)
        return self

    def add(self, o: Overlaps, judgement: Judgement) -> float | None:
        """Count one image.

        Returns:
            Its quality in [0, 1]: summed IoU of the matched pairs / (matched + half of the other found and true
            segments), which is panoptic quality over all classes at once. None if there are no segments.
        """
        correct = judgement.kinds == KINDS.index(Kind.CORRECT)
        wrong = ~correct & (judgement.kinds != KINDS.index(Kind.IGNORED))
        partners = judgement.partners[correct]
        iou = o.iou[partners, np.flatnonzero(correct)]
        lonely = np.ones(len(o.true_classes), bool)
        lonely[partners] = False
        np.add.at(self.matched, o.found_classes[correct], 1)
        np.add.at(self.iou, o.found_classes[correct], iou)
        np.add.at(self.spurious, o.found_classes[wrong], 1)
        np.add.at(self.unmatched, o.true_classes[lonely], 1)
        np.add.at(self.kinds, (judgement.kinds, o.found_classes), 1)
        np.add.at(self.kinds[KINDS.index(Kind.MISSED)], o.true_classes[judgement.missed], 1)
        self._add_sizes(o, partners, iou)
        self._add_confusions(o, judgement)
        total = correct.sum() + (wrong.sum() + lonely.sum()) / 2
        return float(iou.sum() / total) if total else None

    def _add_sizes(self, o: Overlaps, matched: np.ndarray, iou: np.ndarray) -> None:
        places = np.searchsorted(SIDES, np.sqrt(o.true_areas), side="right") - 1
        np.add.at(self.by_size[0], places, 1)
        np.add.at(self.by_size[1], places[matched], 1)
        np.add.at(self.by_size[2], places[matched], iou)

    def _add_confusions(self, o: Overlaps, judgement: Judgement) -> None:
        nothing = len(self.matched)
        true_classes, counted, free = paired_classes(o, judgement, nothing)
        np.add.at(self.confusion, (true_classes[counted], o.found_classes[counted]), 1)
        np.add.at(self.confusion[:, nothing], o.true_classes[free], 1)

    def quality(self) -> dict[str, np.ndarray]:
        """Return {"PQ", "SQ", "RQ", "precision", "recall"}: [K] float64 in [0, 1]; NaN if the divisor is 0."""
        tp, fp, fn = (x.astype(np.float64) for x in (self.matched, self.spurious, self.unmatched))
        recognised = _ratio(tp, tp + fp / 2 + fn / 2)
        segmented = np.where(np.isnan(recognised), np.nan, self.iou / np.maximum(tp, 1))
        return {
            "PQ": _ratio(self.iou, tp + fp / 2 + fn / 2),
            "SQ": segmented,
            "RQ": recognised,
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
        }


def paired_classes(o: Overlaps, judgement: Judgement, nothing: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say in which cell of the confusion matrix each of N true and M found segments of an image counts.

    Args:
        o, judgement: the segments and what they were judged to be.
        nothing: K, the row and the column of segments without a partner.

    Returns:
        The row of each found segment, [M] int64; those that count, [M] bool; and the true segments that count in column
        K, [N] bool.
    """
    correct = judgement.kinds == KINDS.index(Kind.CORRECT)
    true_classes = np.full(len(o.found_classes), nothing)
    true_classes[correct] = o.true_classes[judgement.partners[correct]]
    free = np.ones(len(o.true_classes), bool)
    free[judgement.partners[correct]] = False
    for found in np.flatnonzero(judgement.kinds == KINDS.index(Kind.WRONG_CLASS)):
        partner = judgement.partners[found]
        if free[partner]:
            true_classes[found], free[partner] = o.true_classes[partner], False
    return true_classes, judgement.kinds != KINDS.index(Kind.IGNORED), free


@dataclass
class PixelTally:
    """Counts of the pixels of K classes.

    Attributes:
        confusion: [K, K] int64, true class by found class.
    """

    confusion: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> PixelTally:
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def __iadd__(self, other: PixelTally) -> PixelTally:
        self.confusion += other.confusion
        return self

    def add(self, counts: np.ndarray, places: np.ndarray) -> float | None:
        """Count one image.

        Args:
            counts: [k, k] int64, pixels by true and found label.
            places: [k] int64, the class of each label.

        Returns:
            Its mean IoU, in [0, 1], over the classes in the ground truth or the result; None if all pixels are ignored.
        """
        self.confusion[np.ix_(places, places)] += counts  # no place occurs twice, else += would lose counts
        iou = PixelTally(counts).quality()["IoU"]
        return None if np.isnan(iou).all() else float(np.nanmean(iou))

    def quality(self) -> dict[str, np.ndarray]:
        """Return {"IoU", "Dice", "precision", "recall"}: [K] float64 in [0, 1]; NaN if the divisor is 0."""
        right = np.diag(self.confusion).astype(np.float64)
        true, found = self.confusion.sum(1), self.confusion.sum(0)
        return {
            "IoU": _ratio(right, true + found - right),
            "Dice": _ratio(2 * right, true + found),
            "precision": _ratio(right, found),
            "recall": _ratio(right, true),
        }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=np.asarray(whole) > 0)
