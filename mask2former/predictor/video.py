"""Read and write frames of videos and cameras by OpenCV, which is needed anyway and brings its own decoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
USUAL_RATE = 25.0  # frames a second, if a source states none


class Frames:
    """The frames of a video file or a camera; they can be iterated over once.

    Args:
        source: a file, or the number of a camera.

    Attributes:
        rate: frames a second.

    Raises:
        OSError: the source cannot be opened.
    """

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
        """Return the number of frames that the file states; 0 if it states none."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each frame, [H, W, 3] uint8, RGB."""
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    return
                yield np.ascontiguousarray(frame[:, :, ::-1])
        finally:
            self._capture.release()


class VideoFile:
    """Write a video file, MPEG-4 Part 2 in mp4, which every OpenCV can write.

    Args:
        file: path that ends in .mp4.
        rate: frames a second.
    """

    def __init__(self, file: Path, rate: float) -> None:
        self.file = file
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame [H, W, 3] uint8, RGB, of the size of the first; an odd last row or column is cut off.

        Raises:
            OSError: the file cannot be written.
        """
        height, width = (side // 2 * 2 for side in frame.shape[:2])
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.file), code, self._rate, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"{self.file}: the video cannot be written. Is the folder writable?")
        self._writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
