"""Read YouTube-VIS files into data set dicts, one for each video, and list the published sets of videos."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode

from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import load_json
from mask2former.data.coco.videos import read_tracks, read_videos
from mask2former.data.datasets.categories import instance_metadata, load_categories
from mask2former.data.datasets.readers import Record
from mask2former.data.datasets.spec import DatasetSpec

EVALUATOR_TYPE = "ytvis"


def read_video_instances(json_file: str, image_root: str, thing_ids: Mapping[int, int]) -> list[Record]:
    """Read the tracks of a YouTube-VIS file.

    Args:
        json_file: annotation file; without "annotations" (official validation files), records have none either.
        image_root: folder of the videos' frames.
        thing_ids: category id -> contiguous id.

    Returns:
        A dict for each video: ``file_names`` of its L frames, ``height, width, length, video_id``, and ``annotations``:
        for each frame a list of the objects that are seen in it, with the track's ``id``, ``category_id, iscrowd,
        segmentation, bbox_mode`` and, if given, ``bbox``. ``file_name`` is the first frame, by which messages name the
        video; ``image_id`` is the video's id.
    """
    sink = FirstFault()
    content = load_json(json_file, sink)
    videos = read_videos(content, json_file, image_root, sink)
    records: dict[Any, Record] = {}
    for video in videos.values():
        assert video is not None  # FirstFault has raised
        height, width = video.size
        records[video.id] = {
            "file_name": video.paths[0],
            "file_names": video.paths,
            "image_id": video.id,
            "video_id": video.id,
            "height": height,
            "width": width,
            "length": len(video.paths),
        }
        if "annotations" in content:
            records[video.id]["annotations"] = [[] for _ in video.paths]
    for track in read_tracks(content, json_file, videos, thing_ids, sink) if "annotations" in content else ():
        by_frame = records[track.video_id]["annotations"]
        for frame, (mask, box) in enumerate(zip(track.segmentations, track.boxes, strict=True)):
            if mask is None:
                continue
            seen = {
                "id": track.id,
                "category_id": thing_ids[track.category_id],
                "iscrowd": int(track.iscrowd),
                "segmentation": mask,
                "bbox_mode": BoxMode.XYWH_ABS,
            }
            by_frame[frame].append(seen if box is None else {**seen, "bbox": box})
    sink.log(json_file)
    return list(records.values())


def load_videos(meta: Metadata) -> list[Record]:
    return read_video_instances(meta.json_file, meta.image_root, meta.thing_dataset_id_to_contiguous_id)


def video_metadata(categories: str) -> dict[str, Any]:
    """Return the metadata of a set of videos whose classes are in the file ``catalog/<categories>.json``."""
    return {**instance_metadata(load_categories(categories)), "evaluator_type": EVALUATOR_TYPE}


def video_rows() -> Iterator[DatasetSpec]:
    """List the sets of videos: as published, OVIS, and the small ones beside the project."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        for name in ("ytvis_2019", "ytvis_2021"):
            yield _row(f"{name}_{split}", f"{name}/{folder}/JPEGImages", f"{name}/{folder}.json", name)
        yield _row(f"ovis_{split}", f"ovis/{folder}", f"ovis/annotations/annotations_{folder}.json", "ovis")
        if split != "test":
            for name in ("clips", "cells"):
                root = f"video/{name}"
                row = _row(
                    f"video_{name}_{split}", f"{root}/{folder}/JPEGImages", f"{root}/{folder}.json", f"video_{name}"
                )
                yield row


def _row(name: str, images: str, file: str, categories: str) -> DatasetSpec:
    paths = {"image_root": images, "json_file": file}
    return DatasetSpec(name, load_videos, paths, functools.partial(video_metadata, categories))
