"""Decode PNG files of labels by kornia-rs and zlib-ng, where they are installed, in a third of OpenCV's time."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import IO

import numpy as np

from mask2former.data.images.deflate import verify_stream
from mask2former.data.images.header import Header
from mask2former.data.images.png import pixel_data

logger = logging.getLogger(__name__)
_MODES = {1: "mono", 3: "rgb"}  # by channels
_DENSE = 4  # Files of more than a quarter of their pixels, as photographs are, gain nothing, and are held beside them.


@functools.cache
def decoder() -> Callable[[bytes, tuple[int, int], str], np.ndarray] | None:
    """Return kornia-rs's function (Apache-2.0), which decodes by Rust's ``png``; None without it, which is logged once.

    It does not pay without zlib-ng: zlib takes longer to verify a file than libpng to decode it. Other threads of
    Python wait while it decodes.
    """
    try:
        import zlib_ng  # noqa: F401  (deflate.py's)
        from kornia_rs.io import decode_image_png_u8
    except ImportError as error:
        logger.info(
            "OpenCV decodes PNG files; with `pip install 'mask2former[images]'`, those of labels take a third of the "
            "time (%s).",
            error,
        )
        return None
    return decode_image_png_u8


def decode_png(file: IO[bytes], header: Header, channels: int) -> np.ndarray | None:
    """Decode a PNG file of 8 bits a channel whose checksums are verified.

    Args:
        file: at its start; it is there again if None is returned.
        header: what :func:`mask2former.data.images.png.scan` found.
        channels: 1: numbers [H, W] of grey values or of a palette; 3: colours [H, W, 3], RGB.

    Returns:
        Pixels uint8, not turned. None for what is left to other decoders: files with other channels than these, in
        several passes, or hardly compressed, whatever this decoder refuses (those say what is wrong), and all files
        if it is not installed.

    Raises:
        ValueError: the compressed pixels are damaged, too few or too many.
        MemoryError: the pixels do not fit.
    """
    decode, size = decoder(), header.height * header.width * channels
    if decode is None or header.interlaced or header.channels != channels or header.depth != 8:
        return None
    start = file.tell()
    length = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    if length * _DENSE > size:
        return None
    np.empty(size, np.uint8)  # where there is no such room, NumPy raises an error, and Rust a panic
    try:
        pixels = decode(file.read(), (header.height, header.width), _MODES[channels])
    except BaseException as error:
        # A panic is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        logger.debug("kornia-rs: %s", error)
        file.seek(start)
        return None
    verify_stream(pixel_data(file), header.height * (1 + header.width * channels))  # a filter's number before each row
    return pixels[..., 0] if channels == 1 else pixels
