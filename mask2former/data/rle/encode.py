"""Encode masks as COCO's compressed run lengths (RLE): the same text as pycocotools, for many masks at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

_AT_ONCE = 16_000_000  # pixels of boxes that are processed together, which limits the memory


def encode_masks(masks: np.ndarray, boxes: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Encode each mask as {"size": [H, W], "counts": text}.

    Args:
        masks: [N, H, W] bool or uint8, 0 or 1.
        boxes: [N, 4] numbers (x0, y0, x1, y1) in pixels, right and bottom exclusive, of the objects. They save the
            search for them; if any pixel lies outside its box, all boxes are searched for.
    """
    number, height, width = masks.shape
    masks = masks.view(np.uint8)
    if not masks.size:
        return compress(np.zeros(0, np.int64), np.zeros(number, np.int64), (height, width))
    changes = None if boxes is None else _changes(masks, _whole_pixels(boxes, height, width))
    if changes is None or (changes[1::2] - changes[::2]).sum() != _count(masks):
        corners = np.array([cv2.boundingRect(mask) for mask in masks], np.int64)
        corners[:, 2:] += corners[:, :2]
        changes = _changes(masks, corners)
    owners, places = np.divmod(changes, height * width + 1)
    return compress(places, np.bincount(owners, minlength=number), (height, width))


def encode_labels(labels: np.ndarray) -> dict[int, dict[str, Any]]:
    """Encode the pixels of every label of an image [H, W] of integers: label -> run lengths, ascending."""
    if not labels.size:
        return {}
    line = (cv2.transpose(labels) if labels.dtype in (np.uint8, np.int16, np.uint16, np.int32) else labels.T).ravel()
    starts = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1])
    values = line[starts]
    order = np.argsort(values, kind="stable")  # linear in time if labels have one or two bytes
    values = values[order]
    borders = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    changes = np.empty((len(starts), 2), np.int64)
    changes[:, 0] = starts[order]
    changes[:, 1] = np.append(starts[1:], line.size)[order]
    lengths = 2 * np.diff(borders, append=len(starts))
    return dict(zip(values[borders].tolist(), compress(changes.ravel(), lengths, labels.shape), strict=True))


def compress(changes: np.ndarray, lengths: np.ndarray, size: Sequence[int]) -> list[dict[str, Any]]:
    """Compress the runs of objects into the form of :func:`encode_masks`.

    Args:
        changes: places x * H + y where runs begin and (exclusively) end in turn, of all objects one after the other.
        lengths: [N] number of changes of each object.
        size: (H, W).
    """
    height, width = (int(side) for side in size)
    if not len(lengths):
        return []
    pixels = height * width
    # Each object has as many counts as changes, and one for the background after the last.
    ends = np.cumsum(lengths)
    last = ends + np.arange(len(ends))
    first = last - lengths
    counts = np.empty(len(changes) + len(lengths), np.int64)
    inner = np.ones(len(counts), bool)
    inner[last] = False
    counts[inner] = changes
    counts[last] = pixels
    counts[1:] -= counts[:-1].copy()
    counts[first[1:]] += pixels  # undo the difference from the previous object's last
    # From the fourth on, a number is the difference from the one two before it.
    numbers = counts.copy()
    numbers[2:] -= counts[:-2]
    for place in range(3):
        early = first[lengths >= place] + place
        numbers[early] = counts[early]
    # A last run of background is left out if it is empty, unless it is the object's only one.
    kept = inner | (counts > 0)
    kept[first] = True
    text, starts = _text(numbers[kept])
    borders = starts[np.cumsum(kept)[first] - 1].tolist()
    return [
        {"size": [height, width], "counts": text[begin:end]}
        for begin, end in zip(borders, [*borders[1:], len(text)], strict=True)
    ]


def _text(numbers: np.ndarray) -> tuple[str, np.ndarray]:
    """Return all numbers as text, and where each begins.

    A number takes as many characters as its bits and sign need, 5 bits each, low bits first; bit 5 is set if more
    follow.
    """
    rests, going, codes = [numbers], [np.arange(len(numbers))], []
    sizes = np.ones(len(numbers), np.int64)
    while len(going[-1]):
        rest = rests[-1]
        more = (rest < -16) | (rest >= 16)
        codes.append((rest & 0x1F) + np.where(more, 80, 48))
        going.append(going[-1][more])
        sizes[going[-1]] += 1
        rests.append(rest[more] >> 5)
    starts = np.cumsum(sizes) - sizes
    text = np.empty(int(sizes.sum()), np.uint8)
    for place, (owners, code) in enumerate(zip(going, codes, strict=False)):
        text[starts[owners] + place] = code
    return text.tobytes().decode("ascii"), starts


def _changes(masks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return mask number * (H * W + 1) + x * H + y of all starts and ends of runs in the boxes, ascending."""
    pixels = masks.shape[1] * masks.shape[2]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    firsts = np.flatnonzero(np.diff(areas.cumsum() // _AT_ONCE, prepend=-1)).tolist()  # of groups of masks
    groups = zip(firsts, [*firsts[1:], len(masks)], strict=True)
    return np.concatenate([_changes_of_few(masks[a:b], boxes[a:b]) + a * (pixels + 1) for a, b in groups])


def _changes_of_few(masks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Do the work of :func:`_changes` for masks whose boxes are processed together."""
    number, height, width = masks.shape
    sides = boxes[:, 2:] - boxes[:, :2]
    columns, rows = sides[:, 0], sides[:, 1] + 1
    ends = np.cumsum(rows * columns)
    firsts = ends - rows * columns
    # All boxes, column by column: a line of pixels, with a 0 before it and at the end of each column.
    line = np.zeros(int(ends[-1]) + 1, np.uint8)
    for mask, (left, top, right, bottom), begin, end in zip(
        masks, boxes.tolist(), firsts.tolist(), ends.tolist(), strict=True
    ):
        if left < right and top < bottom:
            own = line[begin + 1 : end + 1].reshape(right - left, -1)
            cv2.transpose(mask[top:bottom, left:right], dst=own[:, :-1])
    found = np.flatnonzero(line[1:] != line[:-1])
    many = np.diff(np.searchsorted(found, ends), prepend=0)
    column = (found - np.repeat(firsts, many)) // np.repeat(rows, many)
    # From line to mask: columns grow from the box's rows to the image's.
    base = np.arange(number) * (height * width + 1) + boxes[:, 0] * height + boxes[:, 1] - firsts
    places = found + np.repeat(base, many) + column * np.repeat(height - rows, many)
    # A run that continues at the top of the next column would end and begin at one place: drop both.
    twice = np.flatnonzero(places[1:] == places[:-1])
    return np.delete(places, np.concatenate([twice, twice + 1])) if len(twice) else places


def _whole_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Convert boxes of any numbers to int64 within the image."""
    limits = np.array([width, height, width, height])
    whole = np.nan_to_num(boxes).clip(0, limits).astype(np.int64)
    whole[:, 2:] = np.maximum(whole[:, 2:], whole[:, :2])
    return whole


def _count(masks: np.ndarray) -> int:
    """Count the pixels of all masks."""
    if masks.flags.c_contiguous:
        return cv2.countNonZero(masks.reshape(-1, masks.shape[-1]))
    return int(np.count_nonzero(masks))
