"""WebP files: walk over the chunks."""

from __future__ import annotations

import os
import struct
from typing import IO

from mask2former.data.images.exif import orientation
from mask2former.data.images.header import Header

_ANIMATED, _XMP, _EXIF = 0x02, 0x04, 0x08


def is_webp(start: bytes) -> bool:
    """Tell whether a file begins as WebP files do; ``start``: at least 12 bytes."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def scan(file: IO[bytes], verify: bool) -> Header:
    """Read the header of a WebP file: the size of its canvas, and its EXIF data.

    Args:
        file: at its start.
        verify: not used; the format has no checksums.

    Raises:
        ValueError: a part is missing, or the EXIF data is damaged.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(4)
    (length,) = struct.unpack("<I", file.read(4))
    if length + 8 > end:
        raise ValueError(f"it is cut off: {end:,} of {length + 8:,} bytes are there")
    file.seek(12)
    size, turned, flags = None, 1, 0
    while file.tell() + 8 <= length + 8:
        kind, count = struct.unpack("<4sI", file.read(8))
        start = file.tell()
        if start + count > end:
            raise ValueError(f"its chunk {kind!r} is cut off")
        if kind == b"VP8X":
            flags, canvas = file.read(1)[0], file.read(9)
            size = (1 + int.from_bytes(canvas[6:], "little"), 1 + int.from_bytes(canvas[3:6], "little"))
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack("<xI", file.read(5))
            size = (1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF))
        elif kind == b"VP8 " and size is None:
            wide, high = struct.unpack("<6xHH", file.read(10))
            size = (high & 0x3FFF, wide & 0x3FFF)
        elif kind == b"EXIF":
            turned = orientation(file.read(count))
        file.seek(start + count + count % 2)
    if size is None:
        raise ValueError("it has no pixels")
    elsewhere = bool(flags & _XMP) and not flags & _EXIF
    return Header("WEBP", *size, orientation=turned, elsewhere=elsewhere, plain=not flags & _ANIMATED)
