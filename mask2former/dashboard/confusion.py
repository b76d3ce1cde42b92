"""Error kinds and class confusions, prepared for display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mask2former.dashboard.error_types import KINDS, MEANINGS
from mask2former.dashboard.tally import SegmentTally

LARGEST_MATRIX = 24  # classes


@dataclass(frozen=True)
class ErrorRow:
    """One kind of error.

    Attributes:
        name, meaning: text for people.
        count: number of errors.
        share: share of all errors, in [0, 1].
        classes: the classes with most of them, "name (count)".
        kind: place in ``KINDS``.
    """

    name: str
    meaning: str
    count: int
    share: float
    classes: str
    kind: int


@dataclass(frozen=True)
class Confusion:
    """A pair of confused classes: ``count`` of the ``total`` of class ``true`` were taken for ``found``.

    ``places`` are those of the two classes.
    """

    true: str
    found: str
    count: int
    total: int
    places: tuple[int, int]


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix for display.

    Attributes:
        names: names of rows and columns.
        places: their classes; K: nothing.
        counts: [n, n] int64, true by found.
        shares: [n, n] shares of the row's total, in [0, 1]; the total includes classes that are not shown.
        left_out: number of classes that are in the data but not shown, because they are confused least.
    """

    names: list[str]
    places: list[int]
    counts: np.ndarray
    shares: np.ndarray
    left_out: int


def error_rows(tally: SegmentTally, names: Sequence[str]) -> list[ErrorRow]:
    """Return the kinds of error that occurred, most frequent first."""
    rows = [(kind, tally.kinds[KINDS.index(kind)]) for kind in MEANINGS]
    total = sum(int(by_class.sum()) for _, by_class in rows)
    found = [
        ErrorRow(
            name=kind.value,
            meaning=MEANINGS[kind],
            count=int(count.sum()),
            share=float(count.sum() / total),
            classes=_most(count, names),
            kind=KINDS.index(kind),
        )
        for kind, count in rows
        if count.any()
    ]
    return sorted(found, key=lambda row: -row.count)


def _most(by_class: np.ndarray, names: Sequence[str], number: int = 3) -> str:
    order = np.argsort(-by_class, kind="stable")[:number]
    return ", ".join(f"{names[i]} ({by_class[i]})" for i in order if by_class[i])


def confusions(counts: np.ndarray, names: Sequence[str], number: int = 8) -> list[Confusion]:
    """Return the most frequent confusions between classes.

    Args:
        counts: [K, K] or [K + 1, K + 1] int64, true by found; row and column K stand for nothing.
        names: names of the K classes.
    """
    totals = counts.sum(1)
    between = counts[: len(names), : len(names)].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:number]
    pairs = [np.unravel_index(place, between.shape) for place in order]
    return [
        Confusion(names[t], names[f], int(between[t, f]), int(totals[t]), (int(t), int(f)))
        for t, f in pairs
        if between[t, f]
    ]


def matrix(counts: np.ndarray, names: Sequence[str], nothing: str = "nothing") -> Matrix:
    """Return the matrix to display; of many classes, those that are confused most.

    Args:
        counts, names: as for :func:`confusions`.
        nothing: name of row and column K, if there is one.
    """
    names = [*names, nothing] if len(counts) > len(names) else list(names)
    seen = counts.sum(0) + counts.sum(1) > 0
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    order = np.argsort(-wrong, kind="stable")
    kept = np.sort([i for i in order if seen[i]][:LARGEST_MATRIX]).astype(np.int64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    square = np.ix_(kept, kept)
    left_out = int(seen.sum()) - len(kept)
    return Matrix([names[i] for i in kept], kept.tolist(), counts[square], shares[square], left_out)
