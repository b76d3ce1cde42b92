"""List what an image shows of each error and each confusion, so that a page can find the images of either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mask2former.dashboard.error_types import KINDS, Judgement, Kind
from mask2former.dashboard.tally import paired_classes
from mask2former.evaluation.overlaps import Overlaps

CORRECT, NO_KIND = KINDS.index(Kind.CORRECT), -1
# Pairs of classes that are kept of the pixels of one image, the most frequent ones. A good result has far fewer; that
# of a model that has just begun to learn may have thousands, and the page would hold nothing else.
MOST_PAIRS = 300
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mark:
    """One segment of an image, or all of its pixels with one pair of classes.

    Attributes:
        kind: place in ``KINDS``. ``NO_KIND``: confused pixels, and true segments that something was found for, which
            is not right; the error is then the found segment's.
        true, found: classes, the row and the column of the confusion matrix in which it counts; K: nothing.
        weight: score of an instance, share of the image's annotated pixels; None: neither.
        box: (left, top, right, bottom) in thousandths of the image's width and height; None: not known.
    """

    kind: int
    true: int
    found: int
    weight: float | None = None
    box: Box | None = None

    @property
    def amount(self) -> float:
        """Return how much an error adds to its cell of the matrix: a share of the pixels, or one segment."""
        # Confused pixels have no kind; a segment without a kind has no score.
        return self.weight if self.kind == NO_KIND and self.weight is not None else 1.0


def segment_marks(
    o: Overlaps,
    judgement: Judgement,
    nothing: int,
    scores: Sequence[float | None],
    boxes: tuple[Sequence[Box | None], Sequence[Box | None]] | None = None,
) -> list[Mark]:
    """Return the marks of one image: each found segment that is counted, and each true one without a found one.

    Args:
        o, judgement: N true and M found segments and what they were judged to be.
        nothing: K.
        scores: of the M found segments.
        boxes: of the N true and of the M found segments; None if they are not known.
    """
    true_boxes, found_boxes = boxes or ([None] * len(o.true_classes), [None] * len(o.found_classes))
    true_classes, counted, free = paired_classes(o, judgement, nothing)
    found = [
        Mark(int(judgement.kinds[i]), int(true_classes[i]), int(o.found_classes[i]), scores[i], found_boxes[i])
        for i in np.flatnonzero(counted).tolist()
    ]
    missed = KINDS.index(Kind.MISSED)
    lonely = [
        Mark(missed if judgement.missed[i] else NO_KIND, int(o.true_classes[i]), nothing, None, true_boxes[i])
        for i in np.flatnonzero(free).tolist()
    ]
    return found + lonely


def pixel_marks(counts: np.ndarray, places: np.ndarray) -> list[Mark]:
    """Return the marks of one image's pixels, the most frequent pairs of classes first.

    Args:
        counts: [k, k] int64, pixels by true and found label.
        places: [k] int64, the class of each label.
    """
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(int(t), int(f)) for t, f in zip(*np.unravel_index(order, counts.shape), strict=True) if counts[t, f]]
    total = counts.sum()
    return [
        Mark(CORRECT if t == f else NO_KIND, int(places[t]), int(places[f]), float(counts[t, f] / total))
        for t, f in pairs
    ]
