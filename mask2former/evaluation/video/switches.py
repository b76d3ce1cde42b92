"""Follow the objects of the truth from frame to frame, and count identity switches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.evaluation.video.truth import ScoredTrack

LEAST_IOU = 0.5  # of masks in one frame that count as the same object
CONFIDENT = 0.5  # least score of the tracks that are looked at
MISSED, ABSENT = -1, -2


@dataclass(frozen=True)
class Followed:
    """The objects of one video, and which track follows each.

    Attributes:
        objects: N tracks of the truth, crowds left out.
        tracks: M predicted tracks with a score of at least ``CONFIDENT``.
        matches: int64 [N, L], for each object and frame the place in ``tracks`` of the one that follows it, ``MISSED``
            where none does, ``ABSENT`` where the truth does not show it.
        switched: bool [N, L], True where another track follows the object than the last one that did.
    """

    objects: list[ScoredTrack]
    tracks: list[ScoredTrack]
    matches: np.ndarray
    switched: np.ndarray


def follow(truth: Sequence[ScoredTrack], found: Sequence[ScoredTrack]) -> Followed:
    """Match objects and tracks of a video in each frame, as CLEAR MOT does (Bernardin and Stiefelhagen, 2008).

    In each frame, pairs of the last frame stay together while the IoU of their masks is at least 0.5; the others, of
    one class, are assigned for the greatest sum of IoUs.
    """
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    objects = [one for one in truth if not one.iscrowd]
    tracks = [one for one in found if one.score >= CONFIDENT]
    frames = len(objects[0].masks) if objects else 0
    seen = np.array([[area > 0 for area in one.areas] for one in objects], bool).reshape(len(objects), frames)
    matches = np.where(seen, MISSED, ABSENT)
    switched = np.zeros_like(seen)
    last: dict[int, int] = {}
    for frame in range(frames if tracks else 0):
        iou = _overlaps(objects, tracks, frame)
        kept = {row: column for row, column in last.items() if iou[row, column] >= LEAST_IOU}
        rows = [row for row in range(len(objects)) if row not in kept]
        columns = [column for column in range(len(tracks)) if column not in kept.values()]
        rest = np.where(iou[np.ix_(rows, columns)] >= LEAST_IOU, iou[np.ix_(rows, columns)], 0.0)
        now = dict(kept)
        for i, j in zip(*linear_sum_assignment(-rest), strict=True):
            if rest[i, j] > 0:
                now[rows[i]] = columns[j]
        for row, column in now.items():
            matches[row, frame] = column
            switched[row, frame] = row in last and last[row] != column
        last |= now
    return Followed(objects, tracks, matches, switched)


def count_switches(truth: Sequence[ScoredTrack], found: Sequence[ScoredTrack]) -> int:
    """Count the frames of a video in which an object is followed by another track than before; see :func:`follow`."""
    return int(follow(truth, found).switched.sum())


def _overlaps(objects: Sequence[ScoredTrack], tracks: Sequence[ScoredTrack], frame: int) -> np.ndarray:
    """Return the IoU [objects, tracks] of masks in a frame; 0 for those of different classes."""
    iou = np.zeros((len(objects), len(tracks)))
    rows = [i for i, one in enumerate(objects) if one.masks[frame] is not None]
    columns = [j for j, one in enumerate(tracks) if one.masks[frame] is not None]
    if rows and columns:
        sides = [[one[place].masks[frame] for place in places] for one, places in ((objects, rows), (tracks, columns))]
        iou[np.ix_(rows, columns)] = coco_mask.iou(*sides, [0] * len(columns))
    same = np.array([one.category for one in objects])[:, None] == np.array([one.category for one in tracks])
    return iou * same
