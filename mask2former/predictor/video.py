"""Read frames of films, cameras and folders of images.

PyAV (the extra ``mask2former[video]``) reads the time of each frame. Without it OpenCV, which is needed anyway, reads
with its own decoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mask2former.out_of_memory import say_once
from mask2former.predictor.load_image import LoadedImage, find_images, load_image

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
USUAL_RATE = 25.0  # frames a second, if a source states none


class Frames:
    """The frames of a film, a camera or a folder of images; they can be iterated over once.

    Args:
        source: a file; a folder or a glob of images, in the order of their names, numbers in these by
            their value; or the number of a camera.
        start, stop, step: the frames wanted, counted from 0, as for a ``range``; stop None: until the end.

    Attributes:
        rate: frames a second, after ``step``.

    Raises:
        FileNotFoundError: there is no such file or folder.
        OSError: the source cannot be opened.
        ValueError: a range without frames.
    """

    def __init__(self, source: str | Path | int, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        if start < 0 or step < 1 or (stop is not None and stop <= start):
            raise ValueError(f"{source}: frames from {start} to {stop} in steps of {step} are none.")
        self.source, self._range = source, (start, stop, step)
        self._reader = _open(source)
        self.rate = self._reader.rate / step

    @property
    def name(self) -> str:
        """Name of the film, without folders and suffix."""
        return f"camera{self.source}" if isinstance(self.source, int) else Path(self.source).stem or "film"

    @property
    def ends_early(self) -> bool:
        """Tell whether frames are left out at the end."""
        return self._range[1] is not None

    def __len__(self) -> int:
        """Return the number of frames that the source states; 0 if it states none."""
        stated = len(self._reader)
        return len(range(stated)[slice(*self._range)]) if stated else 0

    def __iter__(self) -> Iterator[LoadedImage]:
        """Yield each frame, with its time.

        Raises:
            OSError: a frame cannot be decoded, or there is none; it says how many came before.
        """
        count = 0
        for frame in islice(self._reader, *self._range):
            yield frame
            count += 1
        if not count:
            raise OSError(
                f"{self.source}: no frame {'at all' if self._range[0] == 0 else f'from {self._range[0]} on'}."
            )


def is_film(source: Any) -> bool:
    """Tell whether a source is the file of a film, by its suffix."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES


def load_one(source: Any) -> LoadedImage:
    """Load an image of several, as :func:`mask2former.predictor.load_image.load_image` does.

    Raises:
        ValueError: it is a film.
    """
    if is_film(source):
        raise ValueError(
            f"{source} is a film among images: give it by itself, as predictor.stream({str(source)!r}), without a list."
        )
    return load_image(source)


def _open(source: str | Path | int) -> Any:
    if isinstance(source, int):
        return _OpenCV(source)
    path = Path(source).expanduser()
    if path.is_file():
        if find_spec("av"):
            return _PyAV(path)
        say_once(
            f"{path}: read by OpenCV, without the times of its frames. For these: pip install 'mask2former[video]'"
        )
        return _OpenCV(path)
    return _Images(source)


class _Images:
    """Images of a folder or a glob."""

    rate = USUAL_RATE

    def __init__(self, source: str | Path) -> None:
        self._files = find_images(source)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[LoadedImage]:
        return map(load_image, self._files)


class _OpenCV:
    def __init__(self, source: str | Path | int) -> None:
        self._source = source
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            what = f"camera {source}: it cannot be opened. Is it connected, and not in use?"
            file = f"{source}: not a video that OpenCV can read."
            raise OSError(what if isinstance(source, int) else file)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else USUAL_RATE

    def __len__(self) -> int:
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[LoadedImage]:
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    return
                yield LoadedImage(np.ascontiguousarray(frame[:, :, ::-1]))
        finally:
            self._capture.release()


class _PyAV:
    def __init__(self, path: Path) -> None:
        import av

        self._path = path
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, ValueError) as error:
            raise OSError(f"{path}: not a video that can be read ({error}).") from error
        if not self._container.streams.video:
            raise OSError(f"{path}: there are no images in it, only {_streams(self._container)}.")
        self._stream = self._container.streams.video[0]
        rate = float(self._stream.average_rate or 0)
        self.rate = rate if 0 < rate <= 1000 else USUAL_RATE

    def __len__(self) -> int:
        stated = self._stream.frames
        if not stated and self._container.duration:
            stated = round(self._container.duration / 1_000_000 * self.rate)
        return max(0, stated)

    def __iter__(self) -> Iterator[LoadedImage]:

        count, first = 0, None
        with self._container:
            for frame in self._decoded():
                if isinstance(frame, Exception):
                    raise OSError(
                        f"{self._path}: frame {count} cannot be decoded ({frame}); those before can."
                    ) from frame
                pixels = frame.to_ndarray(format="rgb24")
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # of a phone's film, anticlockwise
                first = frame.time if first is None else first
                seconds = None if frame.time is None or first is None else float(frame.time - first)
                yield LoadedImage(np.ascontiguousarray(np.rot90(pixels, turns)), seconds=seconds)
                count += 1

    def _decoded(self) -> Iterator[Any]:
        """Yield frames, and last the error that ends them, if one does.

        The decoder holds frames back; on an error it is emptied, so that none before the damage is lost. It decodes a
        frame at a time, for with several it drops those that it has begun, and may end without a word.
        """
        import av

        self._stream.thread_type = "SLICE"
        error: Exception | None = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.size and packet.is_corrupt:
                    error = OSError("the file ends, or has a gap, within it")
                elif packet.size:
                    error = None
                yield from self._stream.decode(packet)
        except av.FFmpegError as raised:
            error = raised
            with suppress(av.FFmpegError):
                yield from self._stream.decode(None)
        if error is not None:
            yield error


def _streams(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
