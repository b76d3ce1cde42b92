"""Panoptic quality (Kirillov et al., arXiv 1801.00868), image by image: panopticapi's numbers without its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mask2former.evaluation.rle_pairs import pair_runs

VOID = 0  # the id of pixels that belong to no segment
Tallies = dict[int, "Tally"]  # by category


@dataclass
class Tally:
    """Of one category: the sum of the IoU of matched segments, and numbers of segments."""

    iou: float = 0.0
    matched: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.iou += other.iou
        self.matched += other.matched
        self.false_positives += other.false_positives
        self.false_negatives += other.false_negatives
        return self


@dataclass(frozen=True)
class Overlaps:
    """Pixels that ids of two images share: ``table[i, j]`` of ``truth[i]`` and ``predicted[j]``, ids ascending."""

    truth: list[int]
    predicted: list[int]
    table: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
        """Of two images [H, W] of ids."""
        a, b = truth.ravel(), predicted.ravel()
        starts, lengths = pair_runs(a, b)
        (true_ids, rows), (predicted_ids, columns) = (_numbered(x[starts]) for x in (a, b))
        shape = (len(true_ids), len(predicted_ids))
        counts = np.bincount(rows * shape[1] + columns, weights=lengths, minlength=shape[0] * shape[1])
        return cls(true_ids.tolist(), predicted_ids.tolist(), counts.astype(np.int64).reshape(shape))


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different ids, ascending, and the place of each of ``ids`` [N] among them.

    ``np.unique`` sorts places, which takes ten times as long as sorting numbers.
    """
    ordered = np.sort(ids)
    distinct = ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] + 1))]
    return distinct, np.searchsorted(distinct, ids)


def tally_image(
    truth: np.ndarray,
    truth_segments: Sequence[Mapping[str, Any]],
    predicted: np.ndarray,
    predicted_segments: Sequence[Mapping[str, Any]],
) -> Tallies:
    """Match the segments of one image: those of one category with an IoU above 0.5.

    Args:
        truth, predicted: [H, W] ids.
        truth_segments: ``id``, ``category_id``, ``area`` in pixels and ``iscrowd``.
        predicted_segments: ``id`` and ``category_id``.

    Raises:
        ValueError: other ids in the predicted image than in its segments, or another size than the truth's.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"the prediction's (height, width) is {predicted.shape}, the ground truth's {truth.shape}")
    overlaps = Overlaps.of(truth, predicted)
    segments = {segment["id"]: segment for segment in predicted_segments}
    present = set(overlaps.predicted)
    if not (present - {VOID} <= segments.keys() <= present):
        raise ValueError(
            f"the predicted image has the ids {overlaps.predicted} ({VOID} is none), its segments {sorted(segments)}"
        )
    true_segments = {segment["id"]: segment for segment in truth_segments}
    areas = dict(zip(overlaps.predicted, overlaps.table.sum(axis=0).tolist(), strict=True))
    shared = {
        (overlaps.truth[row], overlaps.predicted[column]): int(overlaps.table[row, column])
        for row, column in zip(*np.nonzero(overlaps.table), strict=True)
    }

    tallies: Tallies = {}
    found: set[int] = set()
    crowds: dict[int, int] = {}
    matched_truth: set[int] = set()
    for (true_id, id_), pixels in shared.items():
        if true_id not in true_segments or id_ not in segments:
            continue
        true, category = true_segments[true_id], segments[id_]["category_id"]
        if true["iscrowd"] or category != true["category_id"]:
            continue
        union = areas[id_] + true["area"] - pixels - shared.get((VOID, id_), 0)
        if pixels / union > 0.5:
            matched_truth.add(true_id)
            found.add(id_)
            tally = tallies.setdefault(category, Tally())
            tally.matched += 1
            tally.iou += pixels / union
    for true_id, true in true_segments.items():
        if true_id in matched_truth:
            continue
        if true["iscrowd"]:
            crowds[true["category_id"]] = true_id
        else:
            tallies.setdefault(true["category_id"], Tally()).false_negatives += 1
    for id_, segment in segments.items():
        unjudged = shared.get((VOID, id_), 0) + shared.get((crowds.get(segment["category_id"], -1), id_), 0)
        if id_ not in found and unjudged / areas[id_] <= 0.5:
            tallies.setdefault(segment["category_id"], Tally()).false_positives += 1
    return tallies


def panoptic_quality(images: Iterable[Tallies], categories: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """PQ, SQ and RQ in [0, 1], means over the categories that are in the truth or in a prediction.

    Args:
        images: of each image.
        categories: ``id`` and ``isthing``.

    Returns:
        {"All", "Things" and "Stuff": {"pq", "sq", "rq", "n" (categories found)}}; without any category all are NaN.
    """
    total: Tallies = {category["id"]: Tally() for category in categories}
    for tallies in images:
        for category, tally in tallies.items():
            if category not in total:
                raise ValueError(f"Category {category} is not among the {len(total)} of the ground truth.")
            total[category] += tally
    groups = {"All": (0, 1), "Things": (1,), "Stuff": (0,)}
    return {
        name: _means([total[category["id"]] for category in categories if category["isthing"] in kinds])
        for name, kinds in groups.items()
    }


def _means(tallies: Sequence[Tally]) -> dict[str, float]:
    sums = {"pq": 0.0, "sq": 0.0, "rq": 0.0}
    count = 0
    for tally in tallies:
        size = tally.matched + 0.5 * tally.false_positives + 0.5 * tally.false_negatives
        if size:
            count += 1
            sums["pq"] += tally.iou / size
            sums["sq"] += tally.iou / tally.matched if tally.matched else 0.0
            sums["rq"] += tally.matched / size
    return {**{key: value / count if count else float("nan") for key, value in sums.items()}, "n": count}
