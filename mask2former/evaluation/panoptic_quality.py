"""Panoptic quality (Kirillov et al., arXiv 1801.00868), image by image: panopticapi's numbers without its files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mask2former.evaluation.overlaps import Matches, Overlaps, match, panoptic_overlaps

Tallies = dict[int, "Tally"]  # by category


@dataclass
class Tally:
    """Counts of one category: the summed IoU of matched segments, and numbers of segments."""

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


def tally_image(
    truth: np.ndarray,
    truth_segments: Sequence[Mapping[str, Any]],
    predicted: np.ndarray,
    predicted_segments: Sequence[Mapping[str, Any]],
) -> Tallies:
    """Match and count the segments of one image; see :func:`mask2former.evaluation.overlaps.panoptic_overlaps`."""
    overlaps = panoptic_overlaps(truth, truth_segments, predicted, predicted_segments)
    return tally(overlaps, match(overlaps))


def tally(overlaps: Overlaps, matches: Matches) -> Tallies:
    """Count one image's segments by category; the IoU is summed in the order of the true segments."""
    tallies: Tallies = defaultdict(Tally)
    (found,) = np.nonzero(matches.matched)
    found = found[matches.partners[found].argsort()]
    iou = overlaps.iou[matches.partners[found], found]
    for category, value in zip(overlaps.found_classes[found].tolist(), iou.tolist(), strict=True):
        tallies[category].matched += 1
        tallies[category].iou += value
    for category in overlaps.true_classes[matches.unmatched].tolist():
        tallies[category].false_negatives += 1
    for category in overlaps.found_classes[matches.spurious].tolist():
        tallies[category].false_positives += 1
    return dict(tallies)


def panoptic_quality(images: Iterable[Tallies], categories: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return PQ, SQ and RQ in [0, 1], averaged over the categories that are in the truth or in a prediction.

    Args:
        images: the counts of each image.
        categories: the ground truth's, with ``id`` and ``isthing``.

    Returns:
        {"All", "Things" and "Stuff": {"pq", "sq", "rq", "n" (number of categories)}}; NaN for a group without any.
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
