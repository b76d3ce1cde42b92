"""Decode PNG files by kornia-rs and zlib-ng, where they are installed, in a third of libpng's time."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import IO, Any

import cv2
import numpy as np

from mask2former.data.images.deflate import verify_stream
from mask2former.data.images.header import Header
from mask2former.data.images.png import pixel_data

logger = logging.getLogger(__name__)
_MODES = {1: "mono", 3: "rgb"}  # by channels


@functools.cache
def decoder() -> Callable[[bytes, tuple[int, int], str], np.ndarray] | None:
    """Return kornia-rs's function (Apache-2.0), which decodes by Rust's ``png``; None without it, which is logged once.

    It does not pay without zlib-ng: zlib takes longer to verify a file than libpng to decode it.
    """
    try:
        import zlib_ng  # noqa: F401  (deflate.py's)
        from kornia_rs.io import decode_image_png_u8
    except ImportError as error:
        logger.info("OpenCV decodes PNG files; with `pip install 'mask2former[images]'` it takes a third (%s).", error)
        return None
    return decode_image_png_u8


def decode_png(file: IO[bytes], header: Header, channels: int) -> np.ndarray | None:
    """Decode a PNG file of 8 bits a channel whose checksums are verified.

    Args:
        file: at its start; it is there again if None is returned.
        header: what :func:`mask2former.data.images.png.scan` found.
        channels: 1: numbers [H, W] of grey values or of a palette; 3: colours [H, W, 3], RGB.

    Returns:
        Pixels uint8, not turned. None for what is left to other decoders: files with an alpha channel, colours of a
        palette, whatever this decoder refuses (those say what is wrong), and all files if it is not installed.

    Raises:
        ValueError: zlib's own checksum, which this decoder does not read, is wrong.
        MemoryError: the pixels do not fit.
    """
    decode, mode = decoder(), _MODES.get(header.channels)
    if decode is None or mode is None or header.channels > channels:
        return None
    start = file.tell()
    try:
        pixels = decode(file.read(), (header.height, header.width), mode)
    except Exception as error:
        logger.debug("kornia-rs: %s", error)
        file.seek(start)
        return None
    except BaseException as error:
        raise _named(error) from error
    verify_stream(pixel_data(file))
    if header.channels == 3:
        return pixels
    return pixels[..., 0] if channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


def _named(error: BaseException) -> Any:
    """Return the error to raise for one that is no ``Exception``: Rust panics where NumPy finds no memory."""
    return MemoryError(str(error)) if type(error).__name__ == "PanicException" else error
