"""Read YouTube-VIS files: COCO's form, but with videos (lists of frames) and tracks (a mask in each frame, or null)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import Id, objects, unknown_category
from mask2former.data.coco.masks import has_mask
from mask2former.data.coco.rules import crowd_flag, identifier, image_size, join_below, whole_number


@dataclass(slots=True)
class Video:
    """A video that a file lists.

    Attributes:
        paths: path of each of its L frames, below the folder of images.
        size: (H, W) in pixels of every frame.
    """

    id: Id
    paths: list[str]
    size: tuple[int, int]


@dataclass(slots=True)
class Track:
    """An object of a video, or a crowd.

    Attributes:
        segmentations: in each of the L frames a mask in any of COCO's forms, or None where it is not seen; not checked
            yet, see :func:`mask2former.data.coco.masks.read_segmentation`.
        boxes: x, y, width, height in each frame, or None, as stated.
    """

    id: Id
    video_id: Id
    category_id: int
    iscrowd: bool
    segmentations: list[Any]
    boxes: list[Any]


Videos = dict[Id, Video | None]  # by id, in the file's order; None: the entry has a fault


def lists_videos(content: Mapping[str, Any]) -> bool:
    """Tell whether the content of a file has the form of YouTube-VIS: videos that list the files of their frames."""
    videos = content.get("videos")
    return isinstance(videos, list) and any(isinstance(one, dict) and "file_names" in one for one in videos)


def read_videos(content: Mapping[str, Any], file: str, root: str, sink: Sink) -> Videos:
    """Read the videos that a file lists; their frames lie below the folder ``root``."""
    videos: Videos = {}
    for position, entry in objects(content, "videos", file, "", sink):
        number = identifier(entry.get("id"))
        where = f"video {number}"
        if number is None:
            sink.fault(
                file, f"'videos', number {position}: an id is an integer or a string, not {entry.get('id')!r:.40}"
            )
        elif number in videos:
            sink.fault(file, f"{where}: the id occurs twice")
        else:
            videos[number] = None
            try:
                videos[number] = _video(number, entry, root, where)
            except ValueError as error:
                sink.fault(file, f"{where}: {str(error).removeprefix(f'{where}: ')}")
    return videos


def _video(number: Id, entry: Mapping[str, Any], root: str, where: str) -> Video:
    names, length = entry.get("file_names"), entry.get("length")
    if not isinstance(names, list) or not names:
        raise ValueError(f"'file_names' has to list its frames; found {names!r:.80}")
    if length is not None and whole_number(length) != len(names):
        raise ValueError(f"its length is {length!r:.40}, but it has {len(names)} file_names")
    return Video(
        number, [join_below(root, name, where) for name in names], image_size(entry.get("height"), entry.get("width"))
    )


def read_tracks(
    content: Mapping[str, Any], file: str, videos: Videos, categories: Container[Any], sink: Sink
) -> list[Track]:
    """Read the tracks of a file.

    Args:
        content: content of ``file``.
        videos: the videos that it lists.
        categories: ids of the classes.
        sink: receives faults. Tracks without a mask in any frame are left out, and said to be.
    """
    tracks: list[Track] = []
    seen: set[Id] = set()
    for position, entry in objects(content, "annotations", file, "", sink):
        number = identifier(entry.get("id"))
        where = f"annotation number {position}" if number is None else f"annotation {number}"
        if number is None or number in seen:
            said = (
                "the id occurs twice" if number in seen else f"an id is a number or a text, not {entry.get('id')!r:.40}"
            )
            sink.fault(file, f"{where}: {said}. It tells tracks apart")
            continue
        seen.add(number)
        video_id, category = identifier(entry.get("video_id")), whole_number(entry.get("category_id"))
        if video_id is None or video_id not in videos:
            sink.fault(file, f"{where}: its video {entry.get('video_id')!r:.40} is not listed in 'videos'")
            continue
        if category is None or category not in categories:
            sink.fault(file, f"{where}: {unknown_category(entry.get('category_id'))}")
            continue
        if (video := videos[video_id]) is None:
            continue
        try:
            iscrowd = crowd_flag(entry.get("iscrowd"))
            masks = _of_frames(entry, "segmentations", len(video.paths))
            boxes = _of_frames(entry, "bboxes", len(video.paths)) if entry.get("bboxes") else [None] * len(masks)
        except ValueError as error:
            sink.fault(file, f"{where}: {error}")
            continue
        masks = [mask if has_mask(mask) else None for mask in masks]
        if any(mask is not None for mask in masks):
            tracks.append(Track(number, video_id, category, iscrowd, masks, boxes))
        else:
            sink.left_out("tracks without a mask in any frame")
    return tracks


def _of_frames(entry: Mapping[str, Any], key: str, length: int) -> list[Any]:
    found = entry.get(key)
    if not isinstance(found, list) or len(found) != length:
        what = f"{len(found)} entries" if isinstance(found, list) else f"{found!r:.40}"
        raise ValueError(
            f"{key!r} has to list one entry for each of the {length} frames (null: not seen); found {what}"
        )
    return found
