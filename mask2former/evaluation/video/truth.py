"""Tracks as they are scored: a compressed mask, or none, in each frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pycocotools import mask as coco_mask

from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Id, load_json
from mask2former.data.coco.masks import encode_segmentation
from mask2former.data.coco.videos import read_tracks, read_videos


@dataclass(eq=False)
class ScoredTrack:
    """A track of the truth or of a result.

    Attributes:
        category: id in the file.
        masks: in each frame a compressed run length (RLE), or None where the track has no pixel.
        score: of a result.
        iscrowd: of the truth.
    """

    category: int
    masks: list[dict[str, Any] | None]
    score: float = 0.0
    iscrowd: bool = False
    areas: list[int] = field(init=False)  # pixels in each frame

    def __post_init__(self) -> None:
        self.areas = [0 if mask is None else int(coco_mask.area(mask)) for mask in self.masks]
        self.masks = [mask if area else None for mask, area in zip(self.masks, self.areas, strict=True)]

    @property
    def frames_seen(self) -> int:
        return sum(area > 0 for area in self.areas)

    @property
    def mean_area(self) -> float:
        """Mean of the areas in the frames where it is seen, in pixels; 0 if it is seen in none."""
        return sum(self.areas) / max(1, self.frames_seen)


@dataclass
class VideoTruth:
    """Ground truth of a set of videos.

    Attributes:
        file: where it was read from.
        categories: id -> name, by ascending id.
        sizes: video id -> (H, W) in pixels.
        lengths: video id -> frames.
        tracks: video id -> its tracks.
        has_annotations: False for official validation files, which only list videos.
        frames: video id -> paths of its frames.
    """

    file: str
    categories: dict[int, str]
    sizes: dict[Id, tuple[int, int]]
    lengths: dict[Id, int]
    tracks: dict[Id, list[ScoredTrack]]
    has_annotations: bool
    frames: dict[Id, list[str]] = field(default_factory=dict)


def read_truth(file: str, root: str = "") -> VideoTruth:
    """Read a YouTube-VIS file.

    Args:
        file: the file.
        root: folder of the frames, for their paths; they are not opened.

    Raises:
        ValueError: the file breaks a rule; the message names file and id.
    """
    sink = FirstFault()
    content = load_json(file, sink)
    names = {category["id"]: category["name"] for category in read_categories(content, file, False, sink)}
    videos = {number: video for number, video in read_videos(content, file, root, sink).items() if video is not None}
    tracks: dict[Id, list[ScoredTrack]] = defaultdict(list)
    annotated = "annotations" in content
    for track in read_tracks(content, file, dict(videos), names, sink) if annotated else ():
        size = videos[track.video_id].size
        try:
            masks = _encoded(track.segmentations, size)
        except ValueError as error:
            sink.fault(file, f"annotation {track.id}: {error}")
            continue
        tracks[track.video_id].append(ScoredTrack(track.category_id, masks, iscrowd=track.iscrowd))
    return VideoTruth(
        file,
        names,
        {number: video.size for number, video in videos.items()},
        {number: len(video.paths) for number, video in videos.items()},
        dict(tracks),
        annotated,
        {number: video.paths for number, video in videos.items()},
    )


def _encoded(masks: Sequence[Any], size: tuple[int, int]) -> list[dict[str, Any] | None]:
    return [None if mask is None else encode_segmentation(mask, size) for mask in masks]
