"""Read pixels that a file stores as they are (BMP, PPM, most TIFF), some rows at a time.

Pillow keeps four bytes for a pixel of colour, in an image that is in memory together with the array made of it.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image

from mask2former.data.images.header import Header

_BAND = 1 << 19  # pixels at a time
# Pillow's names of an image's mode and of its pixels in the file -> bytes of a pixel.
_BYTES = {
    ("L", "L"): 1,
    ("P", "P"): 1,
    ("I;16", "I;16"): 2,
    ("RGB", "RGB"): 3,
    ("RGB", "BGR"): 3,
    ("RGB", "BGRX"): 4,
    ("RGBA", "RGBA"): 4,
}


def stored_pixels(file: IO[bytes], image: Image.Image, mode: str | None, header: Header) -> np.ndarray | None:
    """Return the pixels [H, W] or [H, W, C] in the order of the file, not turned; None if they are stored otherwise.

    Args:
        file: the file.
        image: the same, opened by Pillow, without its pixels.
        mode: Pillow's mode to convert to; None: none.
        header: of the file.

    Raises:
        ValueError: pixels are missing.
    """
    if image.mode == "P" and mode is not None:
        return None  # the colours of a palette take little memory in Pillow
    parts = [_part(*tile) for tile in getattr(image, "tile", ())]
    known = [part for part in parts if part is not None and (image.mode, part[2]) in _BYTES]
    if not parts or len(known) < len(parts):
        return None
    result: np.ndarray | None = None
    for (left, upper, right, lower), offset, raw, stride, direction in known:
        stride = stride or (right - left) * _BYTES[image.mode, raw]
        rows = max(1, _BAND // max(1, right - left))
        for top in range(upper, lower, rows):
            bottom = min(lower, top + rows)
            file.seek(offset + stride * (top - upper if direction > 0 else lower - bottom))
            content = file.read(stride * (bottom - top))
            size = (right - left, bottom - top)
            band = Image.frombytes(image.mode, size, content, "raw", raw, stride, direction)
            pixels = np.asarray(band if mode is None else band.convert(mode))
            if result is None:
                result = np.zeros((header.height, header.width, *pixels.shape[2:]), pixels.dtype)
            result[top:bottom, left:right] = pixels
    return result


def _part(codec: str, box: tuple, offset: int, arguments: object) -> tuple[tuple, int, str, int, int] | None:
    """Return box, offset, name of the pixels, bytes of a row (0: no more than its pixels), and 1, or -1 from below."""
    raw, stride, direction = (*arguments, 0, 1)[:3] if isinstance(arguments, tuple) else (arguments, 0, 1)
    return (box, offset, str(raw), int(stride), int(direction)) if codec == "raw" and box else None
