"""Write films: H.264 by PyAV (the extra ``mask2former[video]``), or MPEG-4 Part 2 by OpenCV."""

from __future__ import annotations

import logging
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mask2former.out_of_memory import say_once

_TICKS = 90000  # of a second


class VideoFile:
    """Write an mp4: H.264 by PyAV, or else MPEG-4 Part 2 by OpenCV, which browsers do not play.

    Args:
        file: path that ends in .mp4.
        rate: frames a second.
        sound: a film whose sound is copied, from the first frame's time on; None: none.
        cut: the sound ends with the last frame, as of a part of a film.

    Raises:
        ValueError: sound, without PyAV or of a film that has none.
    """

    def __init__(self, file: Path, rate: float, sound: Path | None = None, cut: bool = False) -> None:
        self.file = file
        self._size: tuple[int, int] | None = None
        self._told = False  # that sizes change
        self._writer: _H264 | _MPEG4
        if find_spec("av"):
            self._writer = _H264(file, rate, sound, cut)
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
            seconds: its time in the film that it is of; what is written begins with the first frame. None: 1 / rate
                after the one before.

        Raises:
            OSError: the file cannot be written.
            ValueError: the first frame is less than two pixels high or wide.
        """
        if self._size is None:
            self._size = (frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2)
            if not min(self._size):
                raise ValueError(
                    f"{self.file}: a film has at least 2 x 2 pixels, and this one's first frame "
                    f"{frame.shape[1]} x {frame.shape[0]}; write images instead."
                )
        height, width = self._size
        if frame.shape[0] // 2 * 2 != height or frame.shape[1] // 2 * 2 != width:
            if not self._told:
                logging.getLogger(__name__).warning(
                    "%s: a frame of %d x %d pixels, and any other of another size, is fitted into the first one's "
                    "%d x %d.", self.file, frame.shape[1], frame.shape[0], width, height,
                )  # fmt: skip
                self._told = True
            frame = fitted(frame, (height, width), cv2.INTER_AREA)
        self._writer.write(np.ascontiguousarray(frame[:height, :width]), seconds)

    def close(self) -> None:
        self._writer.close()


def fitted(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Return an image [h, w] or [h, w, C] uint8 resized to fit into (H, W), in the middle of zeros.

    Args:
        image: of at least one pixel.
        size: (H, W).
        interpolation: one of OpenCV's.
    """
    factor = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    result = np.zeros((*size, *image.shape[2:]), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    result[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=interpolation)
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
    def __init__(self, file: Path, rate: float, sound: Path | None, cut: bool) -> None:
        self._file, self._rate, self._sound, self._cut = file, rate, sound, cut
        self._first = 0.0  # time of the first frame in the film that it is of
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
            if self._last < 0:
                self._first, self._last = seconds or 0.0, 0
            else:
                step = round(_TICKS / self._rate)
                ticks = self._last + step if seconds is None else round((seconds - self._first) * _TICKS)
                self._last = max(ticks, self._last + 1)
            picture.pts, picture.time_base = self._last, Fraction(1, _TICKS)
            for packet in self._stream.encode(picture):
                self._output.mux(packet)
        except av.FFmpegError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> OSError:
        return OSError(f"{self._file}: the video cannot be written ({error}). Is the folder writable?")

    def _begin(self, width: int, height: int) -> None:
        import av

        if self._sound is not None:
            self._input = av.open(str(self._sound))
            if not self._input.streams.audio:
                self._input.close()
                raise ValueError(f"{self._sound}: it has no sound to keep; leave that out.")
        self._output = av.open(str(self._file), "w", options={"movflags": "faststart"})
        self._stream = self._output.add_stream("libx264", rate=Fraction(self._rate).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        if self._input is not None:
            self._heard = self._output.add_stream_from_template(self._input.streams.audio[0])

    def close(self) -> None:
        """End the film, once.

        Raises:
            OSError: its last part cannot be written; the encoder keeps frames back, of a short film all.
        """
        import av

        output, self._output = self._output, None
        if output is None:
            return
        try:
            for packet in self._stream.encode(None):
                output.mux(packet)
            if self._input is not None:
                self._copy_sound(output)
        except av.FFmpegError as error:
            raise self._unwritten(error) from error
        finally:
            if self._input is not None:
                self._input.close()
            try:
                output.close()
            except av.FFmpegError as error:
                raise self._unwritten(error) from error

    def _copy_sound(self, output: Any) -> None:
        """Copy what is heard from the first frame on, and if asked until the last one's end."""
        heard = self._input.streams.audio[0]
        shown = next(iter(self._input.streams.video), None)
        begin = 0.0 if shown is None else float((shown.start_time or 0) * shown.time_base)  # frames count from there
        offset = round((begin + self._first) / heard.time_base)
        end = round((self._last / _TICKS + 1 / self._rate) / heard.time_base)
        for packet in self._input.demux(heard):
            if packet.dts is None or packet.dts + (packet.duration or 0) <= offset:
                continue
            packet.dts -= offset
            if packet.pts is not None:
                packet.pts -= offset
            if self._cut and packet.dts >= end:
                return
            packet.stream = self._heard
            output.mux(packet)
