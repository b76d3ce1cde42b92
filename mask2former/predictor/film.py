"""Draw films, and write the tracks of their objects."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np

from mask2former.predictor.coco import categories
from mask2former.predictor.predictor import Predictor
from mask2former.predictor.result import Result
from mask2former.predictor.video import Frames
from mask2former.predictor.video_file import fitted
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
            writer.add_frame(result, frames.name, frames.rate, source, cut=frames.ends_early)
            if tracks is not None:
                kept = kept or _tracks_file(tracks, frames.name, result)
                add_tracks(kept, result, writer.tasks[0])
            yield result
    finally:
        try:
            writer.end_video()
        finally:
            if kept is not None:
                kept.write()


def add_tracks(file: TracksFile, result: Result, task: str) -> None:
    """Add a frame's objects to a file of tracks, from its instances or the things of its panoptic result.

    Masks and boxes of a frame of another size than the first are fitted into that one's.
    """
    if task == "instance":
        found = result.instances
        assert found.tracks is not None
        masks, boxes = found.masks, found.boxes
        tracks, classes, scores = (x.tolist() for x in (found.tracks, found.classes, found.scores))
    else:
        things = [segment for segment in result.segments if "track_id" in segment]
        ids = result.panoptic
        masks = np.stack([ids == segment["id"] for segment in things]) if things else np.zeros((0, *ids.shape), bool)
        boxes = None
        tracks = [segment["track_id"] for segment in things]
        classes = [segment["class_id"] for segment in things]
        scores = [1.0] * len(things)  # panoptic segments have no scores
    if file.size not in (None, masks.shape[1:]):
        resized = [fitted(mask.astype(np.uint8), file.size, cv2.INTER_NEAREST) for mask in masks]
        masks, boxes = np.array(resized, bool).reshape(-1, *file.size), None
    shown = np.flatnonzero(masks.any((1, 2)))
    chosen = [[values[row] for row in shown] for values in (tracks, classes, scores)]
    masks = masks[shown]
    of_masks = boxes[shown] if boxes is not None else np.array(list(map(mask_box, masks)), np.float32).reshape(-1, 4)
    file.add(chosen[0], masks, of_masks, chosen[1], chosen[2], result.seconds)


def _tracks_file(file: Path, name: str, result: Result) -> TracksFile:
    by_name = {entry["name"]: entry["id"] for entry in categories(result, "panoptic")}
    ids = [by_name.get(one, number) for number, one in enumerate(result.names)]
    return TracksFile(file, name, ids, result.names)
