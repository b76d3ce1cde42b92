"""Layers: objects that share no pixel, as one image of labels, or as run lengths from which it can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from mask2former.data.mapper.geometry import Grid, gather_2d

LAYER_CAPACITY = 255  # labels are uint8 (what Pillow resizes fast), and 0 is "no object"
FEW = 24  # up to this many labels, searching for one after the other is faster
Runs = tuple[np.ndarray, np.ndarray]  # starts and exclusive ends, see mask2former.data.rle.decode.object_runs


class Layer(Protocol):
    """Objects that share no pixel.

    Attributes:
        members: numbers of at most ``LAYER_CAPACITY`` objects; pixels of object ``members[v - 1]`` have the label v.
    """

    members: list[int]

    def part(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Return [bottom - top, right - left] uint8 labels, 0 where there is no object."""


@dataclass
class PaintedLayer:
    """A :class:`Layer` given by its image of labels [H, W] uint8."""

    labels: np.ndarray
    members: list[int]

    def part(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        return self.labels[top:bottom, left:right]


@dataclass
class RunLayer:
    """A :class:`Layer` given by run lengths, of which only the requested part is painted.

    Attributes:
        height: H of the image, in pixels.
        starts, ends: [R] places x * H + y of all objects' runs (ends exclusive), ascending, without overlap.
        values: [R] uint8 labels.
    """

    height: int
    starts: np.ndarray
    ends: np.ndarray
    values: np.ndarray
    members: list[int]

    def part(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        first, last = left * self.height, right * self.height
        chosen = slice(np.searchsorted(self.ends, first, "right"), np.searchsorted(self.starts, last, "left"))
        # The places where the label changes, and the label from there on.
        changes = np.empty((len(self.starts[chosen]), 2), np.int64)
        np.clip(self.starts[chosen], first, last, out=changes[:, 0])
        np.clip(self.ends[chosen], first, last, out=changes[:, 1])
        labels = np.zeros((len(changes), 2), np.uint8)
        labels[:, 0] = self.values[chosen]
        lengths = np.diff(changes.ravel(), prepend=first, append=last)
        painted = np.repeat(np.concatenate([[np.uint8(0)], labels.ravel()]), lengths)
        return cv2.transpose(painted.reshape(right - left, self.height)[:, top:bottom])


def render(layer: Layer, grid: Grid) -> np.ndarray:
    """Return the labels of a layer where ``grid`` is not padding, [h, w] uint8."""
    rows, columns = (line[inside] for line, inside in zip((grid.rows, grid.columns), grid.inside(), strict=True))
    if not (len(rows) and len(columns)):
        return np.zeros((len(rows), len(columns)), np.uint8)
    top, left = int(rows.min()), int(columns.min())
    part = layer.part(top, int(rows.max()) + 1, left, int(columns.max()) + 1)
    return gather_2d(part, rows - top, columns - left)


def values_in(labels: np.ndarray, count: int) -> list[int]:
    """Return which of the labels 1 to ``count`` occur, ascending.

    Args:
        labels: [H, W] uint8, none of them greater than ``count``.
    """
    if count > FEW:
        return (np.flatnonzero(np.bincount(labels.ravel(), minlength=1)[1:]) + 1).tolist()
    pixels = labels.tobytes()
    return [value for value in range(1, count + 1) if value in pixels]


def layers_from_ids(ids: np.ndarray, wanted: list[int]) -> list[PaintedLayer]:
    """Make layers from an image of ids.

    Args:
        ids: [H, W] integers, not negative.
        wanted: the different ids that are objects; the object's number is the place of its id.

    Returns:
        One layer for every ``LAYER_CAPACITY`` objects.
    """
    layers = []
    for start in range(0, len(wanted), LAYER_CAPACITY):
        chunk = wanted[start : start + LAYER_CAPACITY]
        layers.append(PaintedLayer(number_ids(ids, chunk), list(range(start, start + len(chunk)))))
    return layers


def number_ids(ids: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    """Return for each pixel 1 + the place of its id in ``wanted``, and 0 for other ids.

    Args:
        ids: [H, W] integers, not negative.
        wanted: different ids, at least one and at most ``LAYER_CAPACITY``.

    Returns:
        [H, W] uint8.
    """
    numbers = np.arange(1, len(wanted) + 1, dtype=np.uint8)
    if ids.dtype == np.uint8 and ids.size:
        table = np.zeros(256, np.uint8)
        table[list(wanted)] = numbers
        return cv2.LUT(ids, table)
    # Ids rarely change from pixel to pixel, so they are looked up only there. (A table for 24 bits takes 16 MB.)
    line = ids.ravel()
    starts = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1])[: line.size]
    order = np.argsort(wanted)
    keys = np.array(wanted, np.int64)[order]
    found = line[starts].astype(np.int64)
    places = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    labels = np.where(keys[places] == found, numbers[order][places], np.uint8(0))
    return np.repeat(labels, np.diff(starts, append=line.size)).reshape(ids.shape)


def layers_from_runs(height: int, runs: dict[int, Runs]) -> list[RunLayer]:
    """Distribute objects over few layers.

    Args:
        height: H of the image.
        runs: number of an object -> its runs.
    """
    layers = []
    left = {member: of for member, of in runs.items() if len(of[0])}
    while left:
        members = _disjoint(left)[:LAYER_CAPACITY]
        starts, ends, owners = _sorted({member: left.pop(member) for member in members})
        layers.append(RunLayer(height, starts, ends, (owners + 1).astype(np.uint8), members))
    return layers


def _sorted(runs: dict[int, Runs]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts, ends and owners (places in ``runs``) of all runs, sorted by start."""
    starts, ends = (np.concatenate(arrays) for arrays in zip(*runs.values(), strict=True))
    owners = np.repeat(np.arange(len(runs)), [len(one) for one, _ in runs.values()])
    order = np.argsort(starts, kind="stable")
    return starts[order], ends[order], owners[order]


def _disjoint(runs: dict[int, Runs]) -> list[int]:
    """Return objects of ``runs`` that share no pixel: the first, and others that overlap none of those kept."""
    kept = dict(runs)
    while True:
        starts, ends, owners = _sorted(kept)
        reach = np.maximum.accumulate(ends)
        # A run that begins before the farthest end so far overlaps the run which has that end.
        farthest = np.maximum.accumulate(np.where(ends == reach, np.arange(len(ends)), 0))
        clashes = np.flatnonzero(starts[1:] < reach[:-1]) + 1
        members = list(kept)
        if len(clashes) == 0:
            return members
        pairs = np.unique(np.sort(np.stack([owners[farthest[clashes - 1]], owners[clashes]], -1)), axis=0)
        out: set[int] = set()
        for one, other in pairs.tolist():
            if one not in out and other not in out:
                out.add(other)
        for place in out:
            del kept[members[place]]
