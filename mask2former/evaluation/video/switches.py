"""Count identity switches: frames in which an object of the truth is followed by another track than before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.evaluation.video.truth import ScoredTrack

LEAST_IOU = 0.5  # of masks in one frame that count as the same object
CONFIDENT = 0.5  # least score of the tracks that are looked at


def count_switches(truth: Sequence[ScoredTrack], found: Sequence[ScoredTrack]) -> int:
    """Count the switches in one video, as CLEAR MOT does (Bernardin and Stiefelhagen, 2008), of masks of one class.

    In each frame, pairs of the last frame stay together while their IoU is at least 0.5; the others are assigned for
    the greatest sum of IoUs.
    """
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    objects = [one for one in truth if not one.iscrowd]
    tracks = [one for one in found if one.score >= CONFIDENT]
    last: dict[int, int] = {}
    switches = 0
    for frame in range(len(objects[0].masks) if objects and tracks else 0):
        iou = _overlaps(objects, tracks, frame)
        kept = {row: column for row, column in last.items() if iou[row, column] >= LEAST_IOU}
        rows = [row for row in range(len(objects)) if row not in kept]
        columns = [column for column in range(len(tracks)) if column not in kept.values()]
        rest = np.where(iou[np.ix_(rows, columns)] >= LEAST_IOU, iou[np.ix_(rows, columns)], 0.0)
        now = dict(kept)
        for i, j in zip(*linear_sum_assignment(-rest), strict=True):
            if rest[i, j] > 0:
                now[rows[i]] = columns[j]
        switches += sum(row in last and last[row] != column for row, column in now.items())
        last |= now
    return switches


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
