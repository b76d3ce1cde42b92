"""Run a film through a predictor, and read memory and time on the way."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mask2former.measure.memory import resident

PLAIN, TRACKED, WINDOWS = "frames", "tracked", "windows"


@dataclass(frozen=True)
class Film:
    """A film to measure with.

    Attributes:
        size: (H, W) of its frames, in pixels.
        frames: its length.
        images: folder whose images are repeated, resized; None: drawn squares that move.
    """

    size: tuple[int, int]
    frames: int
    images: str | None = None


@dataclass(frozen=True)
class Row:
    """What a way took.

    Attributes:
        way: one of the names above.
        frames: of the film.
        seconds, processor: of the whole film, by the clock and of the processor.
        early, late: resident memory after the first frames and at the end, in bytes.
        objects: mean number in a frame.
        tracks: numbers of tracks that were given; 0 without tracking.
    """

    way: str
    frames: int
    seconds: float
    processor: float
    early: int
    late: int
    objects: float
    tracks: int


def write_film(film: Film, file: Path) -> None:
    """Write the film as an mp4."""
    from mask2former.predictor.video_file import VideoFile

    video = VideoFile(file, 25)
    for frame in islice(_drawn(film.size) if film.images is None else _repeated(film.images, film.size), film.frames):
        video.write(frame)
    video.close()


def ways_of(model: str, options: dict[str, Any]) -> list[str]:
    """Return the ways that a model can take."""
    from mask2former import Predictor
    from mask2former.predictor.windows import sees_clips

    return [PLAIN, TRACKED, *([WINDOWS] if sees_clips(Predictor(model, **options).model) else [])]


def measure(model: str, options: dict[str, Any], file: Path, way: str, early: int, threads: int) -> Row:
    """Measure a way in a process of its own; ``early`` is the frame after which memory is read first."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, model, options, file, way, early, threads).result()


def _measure(model: str, options: dict[str, Any], file: Path, way: str, early: int, threads: int) -> Row:
    from mask2former import Predictor
    from mask2former.predictor.following import tracker_for
    from mask2former.predictor.video import Frames

    torch.set_num_threads(threads)
    predictor = Predictor(model, **options)

    def results(frames: Frames) -> Any:
        own = tracker_for(predictor.model, predictor.tasks, predictor.threshold)
        return predictor.stream(frames, track={PLAIN: False, TRACKED: own, WINDOWS: None}[way])

    for result in results(Frames(file, 0, min(early, 4))):
        result.compute()  # what is loaded once
    memory, objects, tracks, count = 0, 0, set[int](), 0
    started, processor = time.perf_counter(), time.process_time()
    for result in results(Frames(file)):
        found = result.compute().instances if "instance" in predictor.tasks else None
        if found is not None:
            objects += len(found)
            tracks |= set() if found.tracks is None else set(found.tracks.tolist())
        count += 1
        if count == early:
            memory = resident()
    took = time.perf_counter() - started, time.process_time() - processor
    return Row(way, count, *took, memory, resident(), objects / count, len(tracks))


def _drawn(size: tuple[int, int]) -> Any:
    """Yield frames without end: squares that go round on a still ground."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, (*size, 3), dtype=np.uint8)
    squares = [(rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(0, 256, 3)) for _ in range(6)]
    side = max(4, min(size) // 5)
    for t in range(1 << 30):
        frame = ground.copy()
        for number, (top, left, colour) in enumerate(squares):
            y, x = (int(top) + t * (number % 3)) % (size[0] - side), (int(left) + t) % (size[1] - side)
            frame[y : y + side, x : x + side] = colour
        yield frame


def _repeated(folder: str, size: tuple[int, int]) -> Any:
    import cv2

    from mask2former.predictor.load_image import find_images, load_image

    files: Sequence[Path] = find_images(folder)
    there_and_back = [*files, *files[-2:0:-1]]  # without jumps
    for file in cycle(there_and_back):
        yield cv2.resize(load_image(file).pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA)
