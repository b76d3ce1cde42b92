"""Compute how the true and the found segments of one image overlap, and which of them match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from mask2former.evaluation.rle_pairs import pair_runs

VOID = 0  # the id of pixels that belong to no segment
MATCH = 0.5  # a found segment matches a true one if it is of its class and their IoU is above this
_SMALL = 4096  # ids below it are numbered by a table
ROUNDING = 1e-6  # allowed in the IoU of boxes, whose coordinates are floats; seen: 1.6e-15


@dataclass(frozen=True)
class Overlaps:
    """The overlaps of N true and M found segments.

    Attributes:
        true_classes: [N] int64.
        true_areas: [N] int64, in pixels.
        found_classes: [M] int64, in the order in which they may claim true segments (best score first).
        found_areas: [M] int64, in pixels.
        shared: [N, M] int64, pixels in common.
        iou: [N, M] float64, in [0, 1].
        void: [M] float64, the share of a found segment that lies where nothing is scored: on pixels without
            annotation or on a crowd of its class.

    Raises:
        ValueError: an IoU is outside of [0, 1].
    """

    true_classes: np.ndarray
    true_areas: np.ndarray
    found_classes: np.ndarray
    found_areas: np.ndarray
    shared: np.ndarray
    iou: np.ndarray
    void: np.ndarray

    def __post_init__(self) -> None:
        require_shares(self.iou)


@dataclass(frozen=True)
class Matches:
    """The matches between M found and N true segments.

    Attributes:
        partners: [M] int64, the true segment that each matches; -1: none.
        duplicates: [M] int64, the true segment that each would match, but another one has matched already; -1: none.
        ignored: [M] bool, those that match nothing and lie mostly where nothing is scored.
        unmatched: [N] bool, the true segments without a match.
    """

    partners: np.ndarray
    duplicates: np.ndarray
    ignored: np.ndarray
    unmatched: np.ndarray

    @property
    def matched(self) -> np.ndarray:
        """The true positives, bool [M]."""
        return self.partners >= 0

    @property
    def spurious(self) -> np.ndarray:
        """The false positives, bool [M]."""
        return ~self.matched & ~self.ignored


def match(o: Overlaps) -> Matches:
    """Match each found segment in turn with the free true one of its class that has the largest IoU above ``MATCH``."""
    good = (o.true_classes[:, None] == o.found_classes) & (o.iou > MATCH)
    partners, duplicates = np.full((2, len(o.found_classes)), -1, np.int64)
    free = np.ones(len(o.true_classes), bool)
    rows, columns = np.nonzero(good)
    if len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows):  # as it is where no segments overlap
        partners[columns], free[rows] = rows, False
        columns = columns[:0]
    for found in sorted(set(columns.tolist())):
        iou = np.where(good[:, found], o.iou[:, found], 0)
        best = int((iou * free).argmax())
        if iou[best] and free[best]:
            partners[found], free[best] = best, False
        else:
            duplicates[found] = iou.argmax()
    return Matches(partners, duplicates, (partners < 0) & (duplicates < 0) & (o.void > 0.5), free)


def require_shares(iou: np.ndarray) -> None:
    """Raise ValueError unless every value is in [0, 1], except for the rounding of boxes."""
    strange = iou[~((iou >= 0) & (iou <= 1 + ROUNDING))]
    if strange.size:
        raise ValueError(
            f"found an IoU of {strange.flat[0]}, which has to be in [0, 1]: check the sizes and segments of its "
            "ground truth and of its prediction"
        )


def panoptic_overlaps(
    truth: np.ndarray,
    truth_segments: Sequence[Mapping[str, Any]],
    predicted: np.ndarray,
    predicted_segments: Sequence[Mapping[str, Any]],
) -> Overlaps:
    """Compare two panoptic images by the rules of panoptic quality (arXiv 1801.00868, section 4.2).

    Pixels of id 0 in the truth are void and belong to no union. Crowds are not segments. Areas are counted, whatever
    the annotation file states. Segments are ordered by their ids.

    Args:
        truth, predicted: [H, W] integers, segment ids.
        truth_segments: ``id``, ``category_id`` and, for crowds, ``iscrowd``.
        predicted_segments: ``id`` and ``category_id``.

    Raises:
        ValueError: the predicted image has other ids than its segments, or another size than the truth, or a segment
            has the id 0.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"the prediction's (height, width) is {predicted.shape}, the ground truth's {truth.shape}")
    true_ids, found_ids, table = count_pairs(truth, predicted)
    true = {segment["id"]: segment for segment in truth_segments}
    found = {segment["id"]: segment for segment in predicted_segments}
    for name, segments in (("ground truth", true), ("prediction", found)):
        if VOID in segments:
            raise ValueError(f"a segment of the {name} has the id {VOID}, which marks pixels of no segment; give it 1")
    if not (set(found_ids) - {VOID} == found.keys()):
        raise ValueError(f"the predicted image has the ids {found_ids} ({VOID} is none), its segments {sorted(found)}")
    crowds = {segment["category_id"]: id_ for id_, segment in true.items() if segment.get("iscrowd", 0)}
    rows = sorted(id_ for id_, segment in true.items() if not segment.get("iscrowd", 0))
    columns = sorted(found)

    counted, table = table, np.zeros([side + 1 for side in table.shape], table.dtype)
    table[:-1, :-1] = counted  # the place -1 of ids that are not in the image holds zeros
    at_rows, at_columns = _places(true_ids, rows), _places(found_ids, columns)
    of_found = table[:, at_columns]
    found_classes = np.array([found[id_]["category_id"] for id_ in columns], np.int64)
    true_areas, found_areas, shared = table.sum(1)[at_rows], of_found.sum(0), of_found[at_rows]
    (on_void,) = of_found[_places(true_ids, [VOID])]
    ignored = on_void.copy()
    # panopticapi considers only one crowd of a class, the last.
    for category, pixels in zip(crowds, of_found[_places(true_ids, list(crowds.values()))], strict=True):
        ignored += np.where(found_classes == category, pixels, 0)
    return Overlaps(
        true_classes=np.array([true[id_]["category_id"] for id_ in rows], np.int64),
        true_areas=true_areas,
        found_classes=found_classes,
        found_areas=found_areas,
        shared=shared,
        iou=shared / np.maximum(true_areas[:, None] + found_areas - shared - on_void, 1),
        void=ignored / np.maximum(found_areas, 1),
    )


def count_pairs(one: np.ndarray, other: np.ndarray) -> tuple[list[int], list[int], np.ndarray]:
    """Count the pixels of each pair of ids in two images [H, W].

    Returns:
        The A ids of one and the B of the other image, ascending, and [A, B] int64 pixels.
    """
    a, b = one.ravel(), other.ravel()
    starts, lengths = pair_runs(a, b)
    (ids, rows), (other_ids, columns) = (_numbered(x[starts]) for x in (a, b))
    shape = (len(ids), len(other_ids))
    counts = np.bincount(rows * shape[1] + columns, weights=lengths, minlength=shape[0] * shape[1])
    return ids.tolist(), other_ids.tolist(), counts.astype(np.int64).reshape(shape)


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different ids, ascending, and the place of each of ``ids`` [N] among them.

    ``np.unique`` sorts places, which takes ten times as long as sorting the ids.
    """
    if ids.size and ids.min() >= 0 and ids.max() < _SMALL:  # those of predictions
        there = np.bincount(ids) > 0
        return np.flatnonzero(there), (np.cumsum(there) - 1)[ids]
    ordered = np.sort(ids)
    first = np.ones(ids.size, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    distinct = ordered[first]
    return distinct, np.searchsorted(distinct, ids)


def _places(ids: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    """Return the place of each wanted id among ``ids``; -1 if it is missing."""
    place = {number: index for index, number in enumerate(ids)}
    return np.array([place.get(number, -1) for number in wanted], np.int64)


def mask_overlaps(
    true_masks: Sequence[Any],
    true_classes: Sequence[int],
    found_masks: Sequence[Any],
    found_classes: Sequence[int],
    crowds: Sequence[Any] = (),
    crowd_classes: Sequence[int] = (),
) -> Overlaps:
    """Compare masks, which may overlap.

    Args:
        true_masks, found_masks, crowds: COCO's compressed run lengths, all of one size; found ones best score first.
        true_classes, found_classes, crowd_classes: their classes.
    """
    true_areas, found_areas = _areas(true_masks), _areas(found_masks)
    iou = np.zeros((len(true_masks), len(found_masks)))
    if iou.size:
        iou = np.asarray(mask_util.iou(found_masks, true_masks, [0] * len(true_masks))).T
        require_shares(iou)  # -1 where sizes differ
    void = np.zeros(len(found_masks))
    if len(crowds) and len(found_masks):
        inside = mask_util.iou(found_masks, crowds, [1] * len(crowds))  # shares of the found segments
        same = np.asarray(found_classes)[:, None] == np.asarray(crowd_classes)
        void = np.where(same, inside, 0).max(1)
    return Overlaps(
        true_classes=np.asarray(true_classes, np.int64),
        true_areas=true_areas,
        found_classes=np.asarray(found_classes, np.int64),
        found_areas=found_areas,
        # Solves iou = shared / (true area + found area - shared), which saves decoding the masks.
        shared=np.rint(iou * (true_areas[:, None] + found_areas) / (1 + iou)).astype(np.int64),
        iou=iou,
        void=void,
    )


def _areas(masks: Sequence[Any]) -> np.ndarray:
    """Return the areas in pixels, int64 [N]; one mask at a time, since pycocotools fails on lists of more than 255."""
    return np.array([mask_util.area(mask) for mask in masks], np.int64)
