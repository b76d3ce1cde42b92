"""What is wrong with each found segment, and which true ones were missed.

In the spirit of TIDE (Bolya et al., arXiv 2008.08115, section 2.2), with two kinds of bad outlines told apart that
matter for masks. A found segment *matches* a true one if they are of one class and their IoU is above 0.5; a true
segment is matched by one found segment at most, and better scores choose first. Of the others, in this order:

- *duplicate*: IoU above 0.5 with a true segment of its class that another one has matched already;
- *ignored*: more than half of it lies on pixels without annotation or on a crowd of its class; it counts nowhere;
- *wrong class*: IoU above 0.5 with a true segment of another class;
- *merged*: it holds more than half of each of two or more true segments of its class;
- *split*: more than half of it lies in one true segment of its class, in which more than half of another found
  segment of that class lies as well;
- *badly outlined*: IoU of 0.1 to 0.5 with a true segment of its class;
- *wrong class and badly outlined*: IoU of 0.1 to 0.5 with a true segment of another class;
- *false alarm*: all that is left; there is nothing below it that it could mean.

A true segment is *missed* if none matches it and it is not the one that a segment of the kinds wrong class, merged,
split or (wrong class and) badly outlined was meant to be, which is that of the largest IoU the kind allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from mask2former.dashboard.overlaps import MATCH, Overlaps

BACKGROUND = 0.1  # IoU below which a segment is not meant to be another


class Kind(Enum):
    """The value is what people read."""

    CORRECT = "correct"
    DUPLICATE = "duplicate"
    WRONG_CLASS = "wrong class"
    MERGED = "merged"
    SPLIT = "split"
    BAD_OUTLINE = "badly outlined"
    WRONG_AND_BAD = "wrong class and badly outlined"
    FALSE_ALARM = "false alarm"
    MISSED = "missed"
    IGNORED = "ignored"


MEANINGS = {
    Kind.MISSED: "nothing was found where the object is",
    Kind.WRONG_CLASS: "well outlined (IoU above 0.5), but given another class",
    Kind.BAD_OUTLINE: "the right class, but the outlines overlap too little (IoU 0.1 to 0.5)",
    Kind.SPLIT: "one of several pieces that one object fell into",
    Kind.MERGED: "one segment that holds two or more objects of its class",
    Kind.WRONG_AND_BAD: "another class and an IoU of only 0.1 to 0.5",
    Kind.DUPLICATE: "a second find of an object that was found already",
    Kind.FALSE_ALARM: "found where nothing of the kind is (IoU below 0.1)",
}


@dataclass(frozen=True)
class Judgement:
    """Of one image with N true and M found segments.

    Attributes:
        kinds: of each found segment.
        partners: [M] int64, the true segment that each matches or was meant to be; -1: none.
        missed: [N] bool.
    """

    kinds: list[Kind]
    partners: np.ndarray
    missed: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """[M] bool."""
        return np.array([kind is Kind.CORRECT for kind in self.kinds], bool)

    @property
    def counted(self) -> np.ndarray:
        """[M] bool: all but the ignored."""
        return np.array([kind is not Kind.IGNORED for kind in self.kinds], bool)


def judge(overlaps: Overlaps) -> Judgement:
    """See the module's text for the rules."""
    o = overlaps
    same = o.true_classes[:, None] == o.found_classes
    kinds, partners = _match(o, same)
    inside = o.shared / np.maximum(o.found_areas, 1) > 0.5  # [N, M]: the found one is mostly in the true one
    holds = o.shared / np.maximum(o.true_areas[:, None], 1) > 0.5
    pieces = (same & inside).sum(1)
    for found, kind in enumerate(kinds):
        if kind is not Kind.FALSE_ALARM:
            continue
        iou, of_class = o.iou[:, found], same[:, found]
        near = iou >= BACKGROUND
        rules = (
            (Kind.WRONG_CLASS, ~of_class & (iou > MATCH)),
            (Kind.MERGED, _if_several(of_class & holds[:, found])),
            (Kind.SPLIT, of_class & inside[:, found] & (pieces > 1)),
            (Kind.BAD_OUTLINE, of_class & near),
            (Kind.WRONG_AND_BAD, ~of_class & near),
        )
        for rule, meant in rules:
            if meant.any():
                kinds[found], partners[found] = rule, int(np.where(meant, iou, -1).argmax())
                break
    missed = np.ones(len(o.true_classes), bool)
    missed[partners[partners >= 0]] = False
    return Judgement(kinds, partners, missed)


def _match(o: Overlaps, same: np.ndarray) -> tuple[list[Kind], np.ndarray]:
    """Who matches, who comes second, who is ignored; all others are false alarms as yet."""
    kinds = [Kind.FALSE_ALARM] * len(o.found_classes)
    partners = np.full(len(o.found_classes), -1, np.int64)
    free = np.ones(len(o.true_classes), bool)
    good = same & (o.iou > MATCH)
    for found in range(len(kinds)):
        candidates = good[:, found]
        if (candidates & free).any():
            chosen = int(np.where(candidates & free, o.iou[:, found], -1).argmax())
            kinds[found], partners[found], free[chosen] = Kind.CORRECT, chosen, False
        elif candidates.any():
            kinds[found], partners[found] = Kind.DUPLICATE, int(np.where(candidates, o.iou[:, found], -1).argmax())
        elif o.void[found] > 0.5:
            kinds[found] = Kind.IGNORED
    return kinds, partners


def _if_several(meant: np.ndarray) -> np.ndarray:
    return meant if meant.sum() > 1 else np.zeros_like(meant)
