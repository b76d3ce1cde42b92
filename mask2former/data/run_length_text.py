"""Masks to COCO's compressed run lengths (RLE): the text that pycocotools makes, for many masks at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from mask2former.data.run_lengths import MAX_BYTES_OF_A_RUN

Runs = tuple[np.ndarray, np.ndarray]  # starts and ends + 1, see run_lengths.object_runs


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """{"size": [H, W], "counts": text} of each.

    Args:
        masks: [N, H, W] bool or uint8, 0 or 1.
    """
    size = masks.shape[1:]
    return compress([_runs(mask, size) for mask in masks.view(np.uint8)], size)


def encode_labels(labels: np.ndarray) -> dict[int, dict[str, Any]]:
    """label -> the same of its pixels, for every label of a picture [H, W] of integers, ascending."""
    line = labels.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1])[: line.size]
    ends = np.append(starts[1:], line.size)[: line.size]
    found, owners = np.unique(line[starts], return_inverse=True)
    order = np.argsort(owners, kind="stable")
    borders = np.cumsum(np.bincount(owners, minlength=len(found)))[:-1]
    runs = zip(np.split(starts[order], borders), np.split(ends[order], borders), strict=True)
    return dict(zip(found.tolist(), compress(runs, labels.shape), strict=True)) if line.size else {}


def compress(objects: Iterable[Runs], size: Sequence[int]) -> list[dict[str, Any]]:
    """Of each object's runs, see :func:`encode_masks`."""
    counts = [_counts(runs, size[0] * size[1]) for runs in objects]
    if not counts:
        return []
    values = np.concatenate(counts)
    lengths = np.array([len(one) for one in counts])
    firsts = np.cumsum(lengths) - lengths
    place = np.arange(len(values)) - np.repeat(firsts, lengths)
    # From the fourth run on, a number is the difference to the run two before it.
    numbers = values.copy()
    late = np.flatnonzero(place > 2)
    numbers[late] -= values[late - 2]

    # 5 bits a byte, low bits first; bit 5 says that more follow. As many as hold the number and its sign.
    reach = np.int64(1) << (5 * np.arange(1, MAX_BYTES_OF_A_RUN) - 1)
    extra = ((numbers[:, None] >= reach) | (numbers[:, None] < -reach)).sum(axis=1)
    byte = np.arange(int(extra.max()) + 1)
    codes = ((numbers[:, None] >> (5 * byte)) & 0x1F) + 48
    codes[byte < extra[:, None]] += 0x20
    text = codes[byte <= extra[:, None]].astype(np.uint8).tobytes().decode("ascii")
    ends = np.cumsum(np.add.reduceat(extra + 1, firsts)).tolist()
    size = [int(side) for side in size]
    return [{"size": list(size), "counts": text[start:end]} for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _counts(runs: Runs, pixels: int) -> np.ndarray:
    """Lengths of background and object in turn."""
    changes = np.empty(2 * len(runs[0]) + 2, np.int64)
    changes[0], changes[-1] = 0, pixels
    changes[1:-1:2], changes[2:-1:2] = runs
    counts = np.diff(changes)
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def _runs(mask: np.ndarray, size: Sequence[int]) -> Runs:
    """Looks at the box around the object alone; ``mask`` is uint8."""
    x, y, width, height = cv2.boundingRect(mask)
    # Columns, each with a background pixel after it, so that a run ends with its column.
    line = np.zeros(width * (height + 1) + 1, np.uint8)
    line[1:].reshape(width, height + 1)[:, :height] = mask[y : y + height, x : x + width].T
    changes = np.flatnonzero(line[1:] != line[:-1])
    column, row = np.divmod(changes, height + 1)
    places = (column + x) * size[0] + row + y
    starts, ends = places[::2], places[1::2]
    if height == size[0] and len(starts):  # runs that go on in the next column
        apart = starts[1:] != ends[:-1]
        starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    return starts, ends
