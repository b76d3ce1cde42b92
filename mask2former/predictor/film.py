"""Draw films, and write the tracks of their objects."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from mask2former.predictor.coco import categories
from mask2former.predictor.predictor import Predictor
from mask2former.predictor.result import Result
from mask2former.predictor.video import Frames
from mask2former.predictor.windows import Windows
from mask2former.predictor.writer import ResultWriter
from mask2former.tracking import TracksFile
from mask2former.visualization.painting import mask_box


def draw_film(
    predictor: Predictor,
    writer: ResultWriter,
    frames: Frames,
    *,
    track: bool = True,
    tracks: Path | None = None,
    sound: bool = False,
    windows: Windows | None = None,
) -> Generator[Result, None, None]:
    """Draw a film frame by frame; yield the result of each once it is written.

    Args:
        predictor: finds the objects.
        writer: draws them.
        frames: the film.
        track: link objects from frame to frame.
        tracks: file for the tracks, json or csv, written at the film's end, or when the iteration is stopped.
        sound: copy the film's sound.
        windows: see :meth:`Predictor.stream`.

    Raises:
        ValueError: tracks of what is not tracked; see also :meth:`Predictor.stream`.
        OSError: a frame cannot be decoded, or a file not be written; frames before it are kept.
    """
    if tracks is not None and (not track or predictor.tasks[0] == "semantic"):
        raise ValueError(f"{tracks}: there are tracks of objects only; take another --task, and leave out --no-track.")
    kept: TracksFile | None = None
    source = Path(frames.source) if sound and not isinstance(frames.source, int) else None
    try:
        for result in predictor.stream(frames, track=None if track else False, windows=windows):
            writer.add_frame(result, frames.name, frames.rate, source)
            if tracks is not None:
                kept = kept or _tracks_file(tracks, frames.name, result)
                add_tracks(kept, result, writer.tasks[0])
            yield result
    finally:
        writer.end_video()
        if kept is not None:
            kept.write()


def add_tracks(file: TracksFile, result: Result, task: str) -> None:
    """Add a frame's objects to a file of tracks, from its instances or the things of its panoptic result."""
    if task == "instance":
        found = result.instances
        assert found.tracks is not None
        shown = found.masks.any((1, 2))
        tracks, classes, scores = (x[shown].tolist() for x in (found.tracks, found.classes, found.scores))
        file.add(tracks, found.masks[shown], found.boxes[shown], classes, scores, result.seconds)
        return
    things = [segment for segment in result.segments if "track_id" in segment]
    ids = result.panoptic
    masks = np.stack([ids == segment["id"] for segment in things]) if things else np.zeros((0, *ids.shape), bool)
    boxes = np.array([mask_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    of_things = [(segment["track_id"], segment["class_id"]) for segment in things]
    file.add(
        [track for track, _ in of_things],
        masks,
        boxes,
        [number for _, number in of_things],
        [1.0] * len(things),  # panoptic segments have no scores
        result.seconds,
    )


def _tracks_file(file: Path, name: str, result: Result) -> TracksFile:
    by_name = {entry["name"]: entry["id"] for entry in categories(result, "panoptic")}
    ids = [by_name.get(one, number) for number, one in enumerate(result.names)]
    return TracksFile(file, name, ids, result.names)
