"""Classify what is wrong with each found segment, and find the true ones that were missed.

The rules follow TIDE (Bolya et al., arXiv 2008.08115, section 2.2), and add merged and split segments, which matter
for masks. A found segment *matches* a true one if they are of one class and their IoU is above 0.5; a true segment is
matched by one found segment at most, and better scores choose first. The others are, in this order:

- *duplicate*: IoU above 0.5 with a true segment of its class that another one has matched already;
- *ignored*: more than half of it lies on pixels without annotation or on a crowd of its class; it is not counted;
- *wrong class*: IoU above 0.5 with a true segment of another class;
- *merged*: it holds more than half of each of two or more true segments of its class;
- *split*: more than half of it lies in one true segment of its class, in which more than half of another found
  segment of that class lies as well;
- *poor mask*: IoU of 0.1 to 0.5 with a true segment of its class;
- *wrong class and poor mask*: IoU of 0.1 to 0.5 with a true segment of another class;
- *false alarm*: everything else; no true segment overlaps it enough to be meant.

A true segment is *missed* if none matches it and it is not the one that a found segment of the kinds wrong class,
merged, split or (wrong class and) poor mask stands for: the true segment of the largest IoU that the kind allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from mask2former.evaluation.overlaps import MATCH, Matches, Overlaps

BACKGROUND = 0.1  # IoU below which a found segment does not stand for a true one


class Kind(Enum):
    """The kinds of found and missed segments; the value is the text that people read."""

    CORRECT = "correct"
    DUPLICATE = "duplicate"
    WRONG_CLASS = "wrong class"
    MERGED = "merged"
    SPLIT = "split"
    BAD_OUTLINE = "poor mask"
    WRONG_AND_BAD = "wrong class and poor mask"
    FALSE_ALARM = "false alarm"
    MISSED = "missed"
    IGNORED = "ignored"


MEANINGS = {
    Kind.MISSED: "nothing was found where the object is",
    Kind.WRONG_CLASS: "a good mask (IoU above 0.5) with another class",
    Kind.BAD_OUTLINE: "the right class, but the masks overlap too little (IoU 0.1 to 0.5)",
    Kind.SPLIT: "one of several segments into which an object was split",
    Kind.MERGED: "one segment that holds two or more objects of its class",
    Kind.WRONG_AND_BAD: "another class and an IoU of only 0.1 to 0.5",
    Kind.DUPLICATE: "a second prediction of an object that was found already",
    Kind.FALSE_ALARM: "found where there is no such object (IoU below 0.1)",
}


KINDS = list(Kind)


@dataclass(frozen=True)
class Judgement:
    """The judgement of N true and M found segments of one image.

    Attributes:
        kinds: [M] int64, the place in ``KINDS`` of each found segment's kind.
        partners: [M] int64, the true segment that each matches or stands for; -1: none.
        missed: [N] bool.
    """

    kinds: np.ndarray
    partners: np.ndarray
    missed: np.ndarray


def judge(o: Overlaps, matches: Matches) -> Judgement:
    """Judge the segments of one image by the rules in the module's docstring."""
    same = o.true_classes[:, None] == o.found_classes
    inside = o.shared / np.maximum(o.found_areas, 1) > 0.5  # [N, M]: the found one is mostly in the true one
    holds = o.shared / np.maximum(o.true_areas[:, None], 1) > 0.5
    near = o.iou >= BACKGROUND
    held, pieces = same & holds, same & inside
    kinds = np.full(len(o.found_classes), KINDS.index(Kind.FALSE_ALARM))
    kinds[matches.matched] = KINDS.index(Kind.CORRECT)
    kinds[matches.duplicates >= 0] = KINDS.index(Kind.DUPLICATE)
    kinds[matches.ignored] = KINDS.index(Kind.IGNORED)
    partners = np.maximum(matches.partners, matches.duplicates)
    undecided = kinds == KINDS.index(Kind.FALSE_ALARM)
    rules = (
        (Kind.WRONG_CLASS, ~same & (o.iou > MATCH)),
        (Kind.MERGED, held & (held.sum(0) > 1)),
        (Kind.SPLIT, pieces & (pieces.sum(1, keepdims=True) > 1)),
        (Kind.BAD_OUTLINE, same & near),
        (Kind.WRONG_AND_BAD, ~same & near),
    )
    for kind, meant in rules:
        chosen = undecided & meant.any(0)
        if chosen.any():
            kinds[chosen] = KINDS.index(kind)
            partners[chosen] = np.where(meant, o.iou, -1)[:, chosen].argmax(0)
            undecided &= ~chosen
    missed = np.ones(len(o.true_classes), bool)
    missed[partners[partners >= 0]] = False
    return Judgement(kinds, partners, missed)
