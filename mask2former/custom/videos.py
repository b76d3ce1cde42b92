"""Custom data of tracks in videos: other forms rewritten as YouTube-VIS files, and files of some of the videos."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mask2former.custom.source import DataError, DataSource
from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.rules import identifier
from mask2former.data.coco.videos import Videos, read_videos
from mask2former.data.video_forms import Written, read_coco_frames, read_mots, write_videos
from mask2former.data.video_forms.mots import MOTS_NAMES
from mask2former.files import write_text


def convert(source: DataSource, file: Path, class_names: Sequence[str] = ()) -> tuple[Written, FirstFault]:
    """Write the tracks of a source that has another form to ``file``, in the form of YouTube-VIS.

    Args:
        source: its ``form`` is not "".
        file: the file to write.
        class_names: names of MOTS's classes 1, 2, ...; none: car and pedestrian, as in KITTI.

    Returns:
        Numbers of what was written, and the sink that counted what was left out.

    Raises:
        DataError: the first fault that was found; nothing is written.
    """
    # Not check_dataset.py's remedy: it does not read these forms.
    sink = FirstFault(DataError, remedy="Correct it; nothing was written.")
    if source.annotations is not None:
        content, name = source.content(), source.annotations
        names = {entry["id"]: entry["name"] for entry in read_categories(content, name, False, sink)}
        return write_videos(file, read_coco_frames(content, name, source.images, sink), names, True), sink
    assert source.pngs is not None
    names = dict(enumerate(class_names, start=1)) or MOTS_NAMES
    videos = read_mots(source.images, source.pngs, source.form.removeprefix("MOTS "), names, sink)
    return write_videos(file, videos, names, bool(class_names)), sink


def as_youtube_vis(source: DataSource, file: Path, class_names: Sequence[str], notes: list[str]) -> DataSource:
    """Return the source itself, or what :func:`convert` wrote for it; say so in ``notes``."""
    if not source.form:
        return source
    written, sink = convert(source, file, class_names)
    notes.append(f"{source}: {source.form}, read as {written}, and written to {file} in the form of YouTube-VIS.")
    notes += [f"{source}: {number} {what} are left out." for what, number in sink.counts.items()]
    return dataclasses.replace(source, annotations=str(file), pngs=None, form="")


def listed_videos(source: DataSource) -> Videos:
    """Return the videos that a source's file lists."""
    return read_videos(source.content(), str(source.annotations), source.images, FirstFault(DataError))


def write_chosen(source: DataSource, only: Collection[Any], file: Path) -> None:
    """Write a file of the videos ``only``, with their tracks; all else stays as it is."""
    content = dict(source.content())
    content["videos"] = [entry for entry in content["videos"] if identifier(entry.get("id")) in only]
    if "annotations" in content:
        content["annotations"] = [one for one in content["annotations"] if identifier(one.get("video_id")) in only]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content))
