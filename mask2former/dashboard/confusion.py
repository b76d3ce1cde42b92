"""What goes wrong, in words and numbers for people: kinds of errors, confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mask2former.dashboard.error_types import KINDS, MEANINGS
from mask2former.dashboard.tally import SegmentTally

LARGEST_MATRIX = 24  # classes


@dataclass(frozen=True)
class ErrorRow:
    """One kind of errors.

    Attributes:
        name, meaning: for people.
        count: how many.
        share: of all errors, in [0, 1].
        classes: those that have most of them, "name (count)".
    """

    name: str
    meaning: str
    count: int
    share: float
    classes: str


@dataclass(frozen=True)
class Confusion:
    """``count`` of the ``total`` of class ``true`` were taken for ``found``."""

    true: str
    found: str
    count: int
    total: int


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix to show.

    Attributes:
        names: of rows and columns.
        counts: [n, n] int64, true by found.
        shares: [n, n] of the row's whole, in [0, 1]; also of what is not shown.
        left_out: classes that are in the data but not shown, because little is confused with them.
    """

    names: list[str]
    counts: np.ndarray
    shares: np.ndarray
    left_out: int


def error_rows(tally: SegmentTally, names: Sequence[str]) -> list[ErrorRow]:
    """Most frequent first; those that did not occur are left out."""
    rows = [(kind, tally.kinds[KINDS.index(kind)]) for kind in MEANINGS]
    total = sum(int(by_class.sum()) for _, by_class in rows)
    found = [
        ErrorRow(kind.value, MEANINGS[kind], int(count.sum()), float(count.sum() / total), _most(count, names))
        for kind, count in rows
        if count.any()
    ]
    return sorted(found, key=lambda row: -row.count)


def _most(by_class: np.ndarray, names: Sequence[str], number: int = 3) -> str:
    order = np.argsort(-by_class, kind="stable")[:number]
    return ", ".join(f"{names[i]} ({by_class[i]})" for i in order if by_class[i])


def confusions(counts: np.ndarray, names: Sequence[str], number: int = 8) -> list[Confusion]:
    """The largest ones between classes.

    Args:
        counts: [K, K] or [K + 1, K + 1] int64, true by found; a last row and column stand for nothing.
        names: K.
    """
    totals = counts.sum(1)
    between = counts[: len(names), : len(names)].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:number]
    pairs = [np.unravel_index(place, between.shape) for place in order]
    return [Confusion(names[t], names[f], int(between[t, f]), int(totals[t])) for t, f in pairs if between[t, f]]


def matrix(counts: np.ndarray, names: Sequence[str], nothing: str = "nothing") -> Matrix:
    """To show; of many classes those that are confused most.

    Args:
        counts, names: as for :func:`confusions`.
        nothing: name of the last row and column, if there is one more than names.
    """
    names = [*names, nothing] if len(counts) > len(names) else list(names)
    seen = counts.sum(0) + counts.sum(1) > 0
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    order = np.argsort(-wrong, kind="stable")
    kept = np.sort([i for i in order if seen[i]][:LARGEST_MATRIX]).astype(np.int64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    square = np.ix_(kept, kept)
    return Matrix([names[i] for i in kept], counts[square], shares[square], int(seen.sum()) - len(kept))
