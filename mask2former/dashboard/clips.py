"""Judge the clips of an evaluation: which tracks are right, which objects are followed when, the quality of each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mask2former.evaluation.video import Followed, ScoredTrack, VideoTruth, follow
from mask2former.evaluation.video.score import track_iou
from mask2former.evaluation.video.switches import ABSENT, MISSED

LEAST_TRACK_IOU = 0.5  # above it, over all frames together, a track is right


@dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
        video: its id.
        name: folder of its frames, or its id.
        followed: its objects, confident tracks, and who follows whom in each frame.
        pairs: objects and tracks of one class with an IoU above 0.5, by place: (object, track, IoU).
    """

    video: Any
    name: str
    followed: Followed
    pairs: list[tuple[int, int, float]]

    @property
    def numbers(self) -> list[int]:
        """The number by which a page knows each track: that of its object, or one that no object has; from 1 on."""
        objects = {track: row for row, track, _ in self.pairs}
        others = len(self.followed.objects)
        return [objects.get(place, others + place) + 1 for place in range(len(self.followed.tracks))]

    @property
    def quality(self) -> float:
        """Summed IoU of the pairs over the pairs and half of all other objects and tracks; NaN if there are none."""
        number = (len(self.followed.objects) + len(self.followed.tracks)) / 2
        return sum(iou for *_, iou in self.pairs) / number if number else float("nan")

    @property
    def frames(self) -> tuple[int, int]:
        """Numbers of masks of the truth, one for each object and frame, and of those that a track follows."""
        matches = self.followed.matches
        return int((matches != ABSENT).sum()), int((matches >= 0).sum())

    @property
    def switches(self) -> int:
        return int(self.followed.switched.sum())


def judge_clips(truth: VideoTruth, found: Mapping[Any, Sequence[ScoredTrack]]) -> list[Clip]:
    """Judge all clips with annotated objects or confident tracks, in the order of the truth's file."""
    clips = []
    for video in truth.lengths:
        followed = follow(truth.tracks.get(video, ()), found.get(video, ()))
        if followed.objects or followed.tracks:
            clips.append(Clip(video, _name(truth, video), followed, _pairs(followed)))
    return clips


def by_class(clips: Sequence[Clip], categories: Sequence[int]) -> dict[str, np.ndarray]:
    """Count over all clips, by class.

    Returns:
        [K] each: ``precision``, ``recall`` and ``followed`` (share of the truth's masks that a track follows), NaN
        where there is nothing to divide by; ``switches``, ``true`` and ``found`` (confident tracks).
    """
    places = {category: place for place, category in enumerate(categories)}
    counts = {
        name: np.zeros(len(categories), np.int64) for name in ("true", "found", "right", "seen", "kept", "switches")
    }
    for clip in clips:
        followed = clip.followed
        for row, one in enumerate(followed.objects):
            place, matches = places[one.category], followed.matches[row]
            counts["true"][place] += 1
            counts["seen"][place] += int((matches != ABSENT).sum())
            counts["kept"][place] += int((matches >= 0).sum())
            counts["switches"][place] += int(followed.switched[row].sum())
        for one in followed.tracks:
            counts["found"][places[one.category]] += 1
        for row, *_ in clip.pairs:
            counts["right"][places[followed.objects[row].category]] += 1
    return {
        "precision": _share(counts["right"], counts["found"]),
        "recall": _share(counts["right"], counts["true"]),
        "followed": _share(counts["kept"], counts["seen"]),
        **{name: counts[name] for name in ("switches", "true", "found")},
    }


@dataclass(frozen=True)
class Span:
    """Frames of a timeline in a row.

    Attributes:
        state: "followed", "missed", "absent" or, of a track that follows nothing, "alone".
        track: number of the track (:attr:`Clip.numbers`); 0 if there is none.
        first, last: frames, from 0 on.
        switched: the first frame is an identity switch.
    """

    state: str
    track: int
    first: int
    last: int
    switched: bool = False

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def timelines(clip: Clip, names: Mapping[int, str]) -> list[tuple[str, list[Span]]]:
    """Return (name, spans) of each object, and of each confident track that follows no object in any frame."""
    followed, rows = clip.followed, []
    for number, (one, matches, switched) in enumerate(
        zip(followed.objects, followed.matches, followed.switched, strict=True), start=1
    ):
        rows.append((f"{names[one.category]} {number}", _spans(matches.tolist(), switched.tolist(), clip.numbers)))
    for place, one in enumerate(followed.tracks):
        if not (followed.matches == place).any():
            seen = [place if area else ABSENT for area in one.areas]
            spans = _spans(seen, [False] * len(seen), clip.numbers, "alone")
            rows.append((f"{names[one.category]}, no object", spans))
    return rows


def _spans(
    matches: Sequence[int], switched: Sequence[bool], numbers: Sequence[int], state: str = "followed"
) -> list[Span]:
    spans, frame = [], 0
    for place, group in itertools.groupby(matches):
        length = len(list(group))
        kind = {MISSED: "missed", ABSENT: "absent"}.get(place, state)
        spans.append(Span(kind, numbers[place] if place >= 0 else 0, frame, frame + length - 1, bool(switched[frame])))
        frame += length
    return spans


def _pairs(followed: Followed) -> list[tuple[int, int, float]]:
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    iou = np.array(
        [
            [track_iou(one, other) if one.category == other.category else 0.0 for other in followed.tracks]
            for one in followed.objects
        ]
    ).reshape(len(followed.objects), len(followed.tracks))
    iou[iou <= LEAST_TRACK_IOU] = 0
    rows, columns = linear_sum_assignment(-iou)
    return [(int(i), int(j), float(iou[i, j])) for i, j in zip(rows, columns, strict=True) if iou[i, j] > 0]


def _name(truth: VideoTruth, video: Any) -> str:
    frames = truth.frames.get(video) or [""]
    return os.path.basename(os.path.dirname(frames[0])) or f"video {video}"


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
