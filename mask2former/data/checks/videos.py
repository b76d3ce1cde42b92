"""Checks of YouTube-VIS files: videos, frames and tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycocotools import mask as coco_mask

from mask2former.data.checks.report import Report
from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.file import load_json
from mask2former.data.coco.masks import encode_segmentation, remarks
from mask2former.data.coco.videos import read_tracks, read_videos


def check_videos(
    json_file: str,
    image_root: str,
    names: Mapping[Any, str] | None = None,
    decode: bool = False,
    content: Mapping[str, Any] | None = None,
) -> Report:
    """Check the videos, frames and tracks of a YouTube-VIS file; each mask in a frame counts as an object.

    Args:
        json_file: annotation file.
        image_root: folder of the videos' frames.
        names: category id -> name; the file's own if None.
        decode: read every frame whole.
        content: what the file holds, where it has been read already.
    """
    report = Report(image_root)
    content = load_json(json_file, report) if content is None else content
    if names is None:
        names = {category["id"]: category["name"] for category in read_categories(content, json_file, False, report)}
    if "annotations" in content:  # some are published without, and say nothing about what the frames show
        report.names = tuple(names.values())
    videos = read_videos(content, json_file, image_root, report)
    report.counts["videos"] = len(videos)
    for video in videos.values():
        for path in video.paths if video is not None else ():
            found = report.image_size(path, decode)
            if video is not None and found not in (None, video.size):
                text = f"video {video.id}: the frame's size (height, width) is {found}; {json_file} says {video.size}"
                report.fault(path, text)
    report.of_videos = {video.id: (len(video.paths), 0) for video in videos.values() if video is not None}
    report.counts["frames"] = report.counts.pop("images", 0)
    for track in read_tracks(content, json_file, videos, names, report) if "annotations" in content else ():
        owner = videos[track.video_id]
        assert owner is not None  # tracks of others are left out
        report.counts["tracks"] += 1
        report.tracks[names[track.category_id]] += not track.iscrowd
        frames, tracks = report.of_videos[owner.id]
        report.of_videos[owner.id] = frames, tracks + (not track.iscrowd)
        for frame, mask in enumerate(track.segmentations):
            if mask is None:
                continue
            where = f"annotation {track.id}, frame {frame}"
            try:
                area = int(coco_mask.area(encode_segmentation(mask, owner.size)))
            except ValueError as error:
                report.fault(json_file, f"{where}: {error}")
                continue
            for remark in remarks(mask, owner.size):
                report.fault(json_file, f"{where}: {remark}", survived=True)
            if area == 0:
                report.fault(json_file, f"{where}: its mask is empty", survived=True)
            elif track.iscrowd:
                report.crowd(names[track.category_id])
            else:
                report.add(names[track.category_id], owner.paths[frame], area, video=owner.id)
    return report
