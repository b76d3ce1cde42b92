"""Read frames of films, cameras and folders of images, and write films.

PyAV (the extra ``mask2former[video]``) reads the time of each frame and writes H.264, which browsers play. Without it
OpenCV, which is needed anyway, reads and writes with its own decoders.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
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
_TICKS = 90000  # of a second, in films that are written


class Frames:
    """The frames of a film, a camera or a folder of images; they can be iterated over once.

    Args:
        source: a file; a folder or a glob of images, in the order of their names; or the number of a camera.
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
        self._stream.thread_type = "AUTO"
        rate = float(self._stream.average_rate or 0)
        self.rate = rate if 0 < rate <= 1000 else USUAL_RATE

    def __len__(self) -> int:
        stated = self._stream.frames
        if not stated and self._container.duration:
            stated = round(self._container.duration / 1_000_000 * self.rate)
        return max(0, stated)

    def __iter__(self) -> Iterator[LoadedImage]:
        import av

        count, first = 0, None
        with self._container:
            try:
                for frame in self._container.decode(self._stream):
                    pixels = frame.to_ndarray(format="rgb24")
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # of a phone's film, anticlockwise
                    first = frame.time if first is None else first
                    seconds = None if frame.time is None or first is None else float(frame.time - first)
                    yield LoadedImage(np.ascontiguousarray(np.rot90(pixels, turns)), seconds=seconds)
                    count += 1
            except av.FFmpegError as error:
                raise OSError(f"{self._path}: frame {count} cannot be decoded ({error}); those before can.") from error


def _streams(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


class VideoFile:
    """Write an mp4: H.264 by PyAV, or else MPEG-4 Part 2 by OpenCV, which browsers do not play.

    Args:
        file: path that ends in .mp4.
        rate: frames a second.
        sound: a film whose sound is copied; None: none.

    Raises:
        ValueError: sound, without PyAV or of a film that has none.
    """

    def __init__(self, file: Path, rate: float, sound: Path | None = None) -> None:
        self.file = file
        self._size: tuple[int, int] | None = None
        self._writer: _H264 | _MPEG4
        if find_spec("av"):
            self._writer = _H264(file, rate, sound)
            return
        if sound is not None:
            raise ValueError(f"{sound}: sound is copied by PyAV, which is missing: pip install 'mask2former[video]'")
        say_once(
            "Films are written as MPEG-4 Part 2, which browsers do not play; for H.264: "
            "pip install 'mask2former[video]'"
        )
        self._writer = _MPEG4(file, rate)

    def write(self, frame: np.ndarray, seconds: float | None = None) -> None:
        """Add a frame [H, W, 3] uint8, RGB; an odd last row or column is cut off.

        One of another size than the first is fitted into its size, with black borders.

        Args:
            frame: the image.
            seconds: when it is shown; None: 1 / rate after the one before.

        Raises:
            OSError: the file cannot be written.
        """
        if self._size is None:
            self._size = (frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2)
        height, width = self._size
        if frame.shape[0] // 2 * 2 != height or frame.shape[1] // 2 * 2 != width:
            logging.getLogger(__name__).warning(
                "%s: a frame of %d x %d pixels is fitted into the first one's %d x %d.",
                self.file, frame.shape[1], frame.shape[0], width, height,
            )  # fmt: skip
            frame = _fitted(frame, height, width)
        self._writer.write(np.ascontiguousarray(frame[:height, :width]), seconds)

    def close(self) -> None:
        self._writer.close()


def _fitted(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    factor = min(height / frame.shape[0], width / frame.shape[1])
    size = max(1, round(frame.shape[0] * factor)), max(1, round(frame.shape[1] * factor))
    result = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    result[top : top + size[0], left : left + size[1]] = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
    return result


class _MPEG4:
    def __init__(self, file: Path, rate: float) -> None:
        self._file, self._rate = file, rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray, seconds: float | None) -> None:
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._file), code, self._rate, frame.shape[1::-1])
            if not self._writer.isOpened():
                raise OSError(f"{self._file}: the video cannot be written. Is the folder writable?")
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


class _H264:
    def __init__(self, file: Path, rate: float, sound: Path | None) -> None:
        self._file, self._rate, self._sound = file, rate, sound
        self._output: Any = None
        self._heard: Any = None
        self._input: Any = None
        self._last = -1  # time of the last frame, in ticks

    def write(self, frame: np.ndarray, seconds: float | None) -> None:
        import av

        try:
            if self._output is None:
                self._begin(frame.shape[1], frame.shape[0])
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            step = round(_TICKS / self._rate)
            ticks = self._last + step if seconds is None or self._last < 0 else round(seconds * _TICKS)
            self._last = 0 if self._last < 0 else max(ticks, self._last + 1)
            picture.pts, picture.time_base = self._last, Fraction(1, _TICKS)
            for packet in self._stream.encode(picture):
                self._output.mux(packet)
        except av.FFmpegError as error:
            raise OSError(f"{self._file}: the video cannot be written ({error}). Is the folder writable?") from error

    def _begin(self, width: int, height: int) -> None:
        import av

        self._output = av.open(str(self._file), "w", options={"movflags": "faststart"})
        self._stream = self._output.add_stream("libx264", rate=Fraction(self._rate).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        if self._sound is not None:
            self._input = av.open(str(self._sound))
            if not self._input.streams.audio:
                raise ValueError(f"{self._sound}: it has no sound to keep; leave that out.")
            self._heard = self._output.add_stream_from_template(self._input.streams.audio[0])

    def close(self) -> None:
        if self._output is None:
            return
        for packet in self._stream.encode(None):
            self._output.mux(packet)
        if self._input is not None:
            for packet in self._input.demux(self._input.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = self._heard
                    self._output.mux(packet)
            self._input.close()
        self._output.close()
        self._output = None
