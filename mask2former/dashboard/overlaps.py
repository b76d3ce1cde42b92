"""How the true and the found segments of one image lie over each other: all that is needed to judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from mask2former.evaluation import panoptic_quality

MATCH = 0.5  # a found segment is a true one if it is of its class and their IoU is above this


@dataclass(frozen=True)
class Overlaps:
    """N true and M found segments.

    Attributes:
        true_classes: [N] int64.
        true_areas: [N] int64, in pixels.
        found_classes: [M] int64, in the order in which they may claim true segments (best score first).
        found_areas: [M] int64, in pixels.
        shared: [N, M] int64, pixels in common.
        iou: [N, M] float64.
        void: [M] float64, the share of a found segment that lies where nothing is asked: on pixels without annotation
            or on a crowd of its class.
    """

    true_classes: np.ndarray
    true_areas: np.ndarray
    found_classes: np.ndarray
    found_areas: np.ndarray
    shared: np.ndarray
    iou: np.ndarray
    void: np.ndarray


def panoptic_overlaps(
    true_ids: np.ndarray,
    true_segments: Sequence[Mapping[str, Any]],
    found_ids: np.ndarray,
    found_segments: Sequence[Mapping[str, Any]],
) -> Overlaps:
    """Of two panoptic images, by the rules of panoptic quality (arXiv 1801.00868, section 4.2).

    Pixels of id 0 in the truth are void, and no part of a union. Crowds are no segments.

    Args:
        true_ids, found_ids: [H, W] integers, segment ids below 2^24.
        true_segments, found_segments: with ``id``, ``category_id`` (contiguous) and, for crowds, ``iscrowd``.

    Raises:
        ValueError: the images differ in size.
    """
    if true_ids.shape != found_ids.shape:
        raise ValueError(f"the annotation's size is {true_ids.shape}, the prediction's {found_ids.shape}")
    truths = [segment for segment in true_segments if not segment.get("iscrowd", 0)]
    # panopticapi looks at one crowd of a class, the last.
    crowds = {segment["category_id"]: segment["id"] for segment in true_segments if segment.get("iscrowd", 0)}
    rows = [0, *(segment["id"] for segment in truths), *crowds.values()]
    columns = [segment["id"] for segment in found_segments]
    counts = _count_pairs(true_ids, rows, found_ids, columns)

    found_classes = np.array([segment["category_id"] for segment in found_segments], np.int64)
    found_areas = counts[:, 1:].sum(0)
    true_areas = counts[2 : 2 + len(truths)].sum(1)
    on_void, shared = counts[1, 1:], counts[2 : 2 + len(truths), 1:]
    ignored = on_void.astype(np.float64)
    for category, row in zip(crowds, counts[2 + len(truths) :, 1:], strict=True):
        ignored += np.where(found_classes == category, row, 0)
    return Overlaps(
        true_classes=np.array([segment["category_id"] for segment in truths], np.int64),
        true_areas=true_areas,
        found_classes=found_classes,
        found_areas=found_areas,
        shared=shared,
        iou=shared / np.maximum(true_areas[:, None] + found_areas - shared - on_void, 1),
        void=ignored / np.maximum(found_areas, 1),
    )


def _count_pairs(true_ids: np.ndarray, rows: list[int], found_ids: np.ndarray, columns: list[int]) -> np.ndarray:
    """[len(rows) + 1, len(columns) + 1] int64: pixels by pair of ids; row and column 0 are those of no listed id."""
    counted = panoptic_quality.Overlaps.of(true_ids, found_ids)
    pairs = np.zeros((len(rows) + 1, len(columns) + 1), np.int64)
    places = np.ix_(_places(counted.truth, rows), _places(counted.predicted, columns))
    np.add.at(pairs, places, counted.table)
    return pairs


def _places(ids: Sequence[int], listed: Sequence[int]) -> list[int]:
    """The place of each id in the list, from 1; 0 where the list lacks it."""
    place = {number: index for index, number in enumerate(listed, start=1)}
    return [place.get(number, 0) for number in ids]


def mask_overlaps(
    true_masks: Sequence[Any],
    true_classes: np.ndarray,
    found_masks: Sequence[Any],
    found_classes: np.ndarray,
    crowds: Sequence[Any] = (),
    crowd_classes: Sequence[int] = (),
) -> Overlaps:
    """Of masks, which may overlap, as COCO's run lengths.

    Args:
        true_masks, found_masks, crowds: compressed run lengths of one size; the found ones best score first.
        true_classes, found_classes, crowd_classes: of the same lengths.
    """
    true_areas, found_areas = _areas(true_masks), _areas(found_masks)
    iou = _iou(found_masks, true_masks).T
    void = np.zeros(len(found_masks))
    if len(crowds) and len(found_masks):
        inside = mask_util.iou(found_masks, crowds, [1] * len(crowds))  # shares of the found ones
        same = np.asarray(found_classes)[:, None] == np.asarray(crowd_classes)
        void = np.where(same, inside, 0).max(1)
    shared = np.rint(iou * (true_areas[:, None] + found_areas) / (1 + iou)).astype(np.int64)
    return Overlaps(
        np.asarray(true_classes, np.int64),
        true_areas,
        np.asarray(found_classes, np.int64),
        found_areas,
        shared,
        iou,
        void,
    )


def run_lengths(masks: np.ndarray) -> list[Any]:
    """[n, H, W] bool, as COCO's compressed run lengths."""
    if len(masks) == 0:
        return []
    columns_first = np.ascontiguousarray(masks.view(np.uint8).transpose(0, 2, 1))  # mask by mask: fast
    return mask_util.encode(columns_first.transpose(2, 1, 0))


def _areas(masks: Sequence[Any]) -> np.ndarray:
    return mask_util.area(list(masks)).astype(np.int64) if len(masks) else np.zeros(0, np.int64)


def _iou(found: Sequence[Any], truths: Sequence[Any]) -> np.ndarray:
    if not len(found) or not len(truths):
        return np.zeros((len(found), len(truths)))
    return np.asarray(mask_util.iou(found, truths, [0] * len(truths)))
