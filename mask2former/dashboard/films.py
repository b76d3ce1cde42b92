"""The part of a report that shows tracks over time."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata

from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.classes import Column
from mask2former.dashboard.clips import Clip, by_class, judge_clips, timelines
from mask2former.dashboard.film_strips import strips
from mask2former.dashboard.pages import jpeg_uri
from mask2former.evaluation.video import ScoredTrack, VideoTruth

logger = logging.getLogger(__name__)

EXAMPLES = 4  # clips of the best, and of the worst
MOST_ROWS = 24  # timelines of a clip
MOST_CLIPS = 200  # rows of the table of clips
STRIP_BYTES = 6_000_000  # limit of all strips of a page together
MEANINGS = {
    "mask AP": "Average precision of tracks by the masks of all frames, the mean over IoU 0.5 to 0.95 and the classes.",
    "mask AP50": "The same where an IoU of 0.5 is enough.",
}
RANGES = (
    ("by size (mean area of a mask)", "APs", "below 128 x 128 pixels"),
    ("by size (mean area of a mask)", "APm", "128 x 128 to 256 x 256 pixels"),
    ("by size (mean area of a mask)", "APl", "above 256 x 256 pixels"),
    ("by length (frames that show the object)", "AP-frames<16", "up to 15 frames"),
    ("by length (frames that show the object)", "AP-frames16-31", "16 to 31 frames"),
    ("by length (frames that show the object)", "AP-frames>31", "32 frames and more"),
)


@dataclass(frozen=True)
class Films:
    """Hold what a page shows of an evaluation of videos.

    Attributes:
        truth: the ground truth.
        clips: the judged clips.
        classes: classes of the report.
        metadata: metadata of the data set.
    """

    truth: VideoTruth
    clips: list[Clip]
    classes: ClassList
    metadata: Metadata

    @classmethod
    def of(
        cls, compared: tuple[VideoTruth, Mapping[Any, Sequence[ScoredTrack]]], classes: ClassList, metadata: Metadata
    ) -> Films:
        """Judge what :class:`~mask2former.evaluation.video.YTVISEvaluator` has compared."""
        return cls(compared[0], judge_clips(*compared), classes, metadata)

    def columns(self, scores: Mapping[str, float]) -> list[Column]:
        """Return the columns of the table of classes; ``scores`` are the evaluator's, in percent."""
        ids = {place: id_ for id_, place in self.classes.places.items()}
        order = [ids[place] for place in range(len(self.classes.names))]
        precision = [scores.get(f"AP-{self.truth.categories[id_]}", math.nan) / 100 for id_ in order]
        values = {"AP": np.array(precision), **by_class(self.clips, order)}
        return [Column("tracks", name, numbers) for name, numbers in values.items()]

    def context(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """Return the values of the template ``films.html``; ``scores`` are the evaluator's, in percent."""
        ranked = sorted(self.clips, key=lambda clip: clip.quality)
        best = ranked[::-1][:EXAMPLES] if len(ranked) > EXAMPLES else ranked[::-1]
        worst = [clip for clip in ranked if clip not in best][:EXAMPLES]
        left, unread, shown = STRIP_BYTES, "", []
        for name, chosen in (("worst", worst), ("best", best)):
            figures = []
            for clip in chosen:
                images, problem = self._strips(clip)
                left -= sum(map(len, images.values()))
                unread = unread or problem
                figures.append(self._figure(clip, images if left >= 0 else {}))
            shown.append((name, figures))
        seen, kept = (sum(clip.frames[place] for clip in self.clips) for place in (0, 1))
        return {
            "seen": seen,
            "kept": kept,
            "switches": sum(clip.switches for clip in self.clips),
            "objects": sum(len(clip.followed.objects) for clip in self.clips),
            "ranges": [(group, words, scores.get(name, math.nan) / 100) for group, name, words in RANGES],
            "clips": [self._figure(clip, {}) for clip in ranked[:MOST_CLIPS]],
            "left_out": max(0, len(ranked) - MOST_CLIPS),
            "galleries": [(name, figures) for name, figures in shown if figures],
            "unread": unread,
        }

    def _figure(self, clip: Clip, images: Mapping[str, str]) -> dict[str, Any]:
        seen, kept = clip.frames
        rows = timelines(clip, self.truth.categories)
        return {
            "name": clip.name,
            "video": clip.video,
            "quality": clip.quality,
            "frames": self.truth.lengths[clip.video],
            "objects": len(clip.followed.objects),
            "tracks": len(clip.followed.tracks),
            "right": len(clip.pairs),
            "followed": kept / seen if seen else math.nan,
            "switches": clip.switches,
            "rows": rows[:MOST_ROWS],
            "more_rows": max(0, len(rows) - MOST_ROWS),
            "images": images,
        }

    def _strips(self, clip: Clip) -> tuple[dict[str, str], str]:
        """Return the strips as data URIs, and why there are none: the truth can be scored without the frames."""
        try:
            drawn = strips(clip, self.truth.frames[clip.video], self.classes, self.metadata)
        except (OSError, ValueError) as error:
            logger.warning("The report shows no frames of video %s: %s", clip.video, error)
            return {}, str(error)
        return {key: jpeg_uri(image) for key, image in drawn.items()}, ""
