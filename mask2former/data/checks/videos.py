"""Checks of YouTube-VIS files: videos, frames and tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycocotools import mask as coco_mask

from mask2former.data.checks.report import Report
from mask2former.data.coco.file import load_json
from mask2former.data.coco.masks import encode_segmentation, remarks
from mask2former.data.coco.videos import read_tracks, read_videos


def check_videos(json_file: str, image_root: str, names: Mapping[Any, str], decode: bool = False) -> Report:
    """Check the videos, frames and tracks of a YouTube-VIS file; each mask in a frame counts as an object.

    Args:
        json_file: annotation file.
        image_root: folder of the videos' frames.
        names: category id -> name.
        decode: read every frame whole.
    """
    report = Report(image_root)
    content = load_json(json_file, report)
    videos = read_videos(content, json_file, image_root, report)
    for video in videos.values():
        for path in video.paths if video is not None else ():
            found = report.image_size(path, decode)
            if video is not None and found not in (None, video.size):
                text = f"video {video.id}: the frame's size (height, width) is {found}; {json_file} says {video.size}"
                report.fault(path, text)
    report.counts["videos"] = len(videos)
    for track in read_tracks(content, json_file, videos, names, report) if "annotations" in content else ():
        owner = videos[track.video_id]
        assert owner is not None  # tracks of others are left out
        report.counts["tracks"] += 1
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
                report.add(names[track.category_id], owner.paths[frame], area)
    return report
