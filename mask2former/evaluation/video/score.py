"""Average precision of tracks by COCO's official code, to which a video is an image and a track an object."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mask2former.evaluation.video.truth import ScoredTrack, VideoTruth

logger = logging.getLogger(__name__)

Results = Mapping[Any, Sequence[ScoredTrack]]  # video id -> tracks
EVER: list[float] = [0, 1e10]
# Mean area of a track where it is seen, in pixels, as published; and the number of frames where it is seen.
AREAS: list[list[float]] = [EVER, [0, 128**2], [128**2, 256**2], [256**2, 1e10]]
LENGTHS: list[list[float]] = [EVER, [0, 15], [16, 31], [32, 1e10]]
MAX_TRACKS = [1, 10, 100]
PUBLISHED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class _TrackEval(COCOeval):
    """COCO's evaluation whose IoU is that of tracks."""

    tracks: Mapping[int, ScoredTrack]
    known: dict[tuple[int, int], float]

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # named by pycocotools
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not truth or not found:
            return []
        order = np.argsort([-one["score"] for one in found], kind="mergesort")
        best = [found[place] for place in order[: self.params.maxDets[-1]]]
        return np.array([[self._iou(one, other) for other in truth] for one in best])

    def _iou(self, found: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
        pair = found["track"], truth["track"]
        if pair not in self.known:
            self.known[pair] = track_iou(*(self.tracks[number] for number in pair))
        return self.known[pair]


def track_iou(one: ScoredTrack, other: ScoredTrack) -> float:
    """Return the sum over frames of the intersections by that of the unions; 0 if both are empty everywhere."""
    total = sum(one.areas) + sum(other.areas)
    common = 0
    for first, second in zip(one.masks, other.masks, strict=True):
        if first is not None and second is not None:
            common += int(coco_mask.area(coco_mask.merge([first, second], intersect=True)))
    return common / (total - common) if total else 0.0


def score_tracks(truth: VideoTruth, results: Results, videos: Sequence[Any] | None = None) -> dict[str, float]:
    """Score tracks against the truth.

    Args:
        truth: with annotations.
        results: tracks of each video; videos that lack are those in which nothing was found.
        videos: ids of the videos to score; None: all.

    Returns:
        In percent, NaN where the truth has no such track: the published numbers (``AP, AP50, AP75``, by mean area
        ``APs, APm, APl``, and the recalls), ``AP-<class>``, and by the frames where a track is seen ``AP-frames<16``,
        ``AP-frames16-31`` and ``AP-frames>31``.
    """
    ids = list(truth.lengths) if videos is None else list(videos)
    tracks: dict[int, ScoredTrack] = {}
    known: dict[tuple[int, int], float] = {}
    by_area = _evaluation(truth, results, ids, tracks, known, AREAS)
    scores = dict(zip(PUBLISHED, (_percent(value) for value in by_area.stats), strict=True))
    by_length = _evaluation(truth, results, ids, tracks, known, LENGTHS)
    for place, name in enumerate(("AP-frames<16", "AP-frames16-31", "AP-frames>31"), start=3):
        scores[name] = _percent(by_length.stats[place])
    precision = by_area.eval["precision"]  # [IoUs, recalls, classes, areas, limits]
    for place, category in enumerate(by_area.params.catIds):
        of_class = precision[:, :, place, 0, -1]
        counted = of_class[of_class > -1]
        scores[f"AP-{truth.categories[category]}"] = _percent(counted.mean() if counted.size else -1)
    return scores


def _evaluation(
    truth: VideoTruth,
    results: Results,
    ids: Sequence[Any],
    tracks: dict[int, ScoredTrack],
    known: dict[tuple[int, int], float],
    ranges: list[list[float]],
) -> COCOeval:
    """Evaluate with size as ``ranges`` means it: tracks are numbered alike each time, so ``known`` IoUs serve again."""
    by_length = ranges is LENGTHS
    sides = []
    for source in (truth.tracks, results):
        entries: list[dict[str, Any]] = []
        for video, one in [(owner, track) for owner in ids for track in source.get(owner, ())]:
            number = len(entries) + 1  # pycocotools takes 0 for no match
            key = number if source is truth.tracks else -number
            tracks[key] = one
            entries.append(
                {
                    "id": number,
                    "track": key,
                    "image_id": ids.index(video),
                    "category_id": one.category,
                    "iscrowd": int(one.iscrowd),
                    "area": one.frames_seen if by_length else one.mean_area,
                    "score": one.score,
                }
            )
        api = COCO()
        api.dataset = {
            "images": [{"id": place} for place in range(len(ids))],
            "categories": [{"id": number, "name": name} for number, name in truth.categories.items()],
            "annotations": entries,
        }
        sides.append(api)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        for api in sides:
            api.createIndex()
        evaluation = _TrackEval(*sides, iouType="bbox")  # not "segm", which would read masks of images
        evaluation.tracks, evaluation.known = tracks, known
        evaluation.params.areaRng, evaluation.params.maxDets = ranges, list(MAX_TRACKS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    logger.debug("COCO's report, by %s:\n%s", "frames" if by_length else "area", report.getvalue().rstrip())
    return evaluation


def _percent(value: float) -> float:
    return 100 * float(value) if value > -1 else float("nan")
