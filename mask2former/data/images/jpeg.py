"""JPEG files: walk over the segments before the pixels."""

from __future__ import annotations

import os
import struct
from typing import IO

from mask2former.data.images.exif import orientation
from mask2former.data.images.header import Header

SIGNATURE = b"\xff\xd8\xff"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, without DHT, JPG and DAC
_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a segment
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_TAIL = 1 << 16  # cameras append previews and notes to the image


def scan(file: IO[bytes], verify: bool) -> Header:
    """Read the header of a JPEG file.

    Args:
        file: at its start.
        verify: accept bytes after the end marker, as the decoder will find out whether the pixels are whole. Otherwise
            the last bytes have to hold that marker.

    Raises:
        ValueError: a part is missing, or the EXIF data is damaged.
    """
    file.seek(2)
    height = width = channels = depth = 0
    turned, elsewhere = None, False
    while (marker := _marker(file)) != _SCAN:
        if marker in _ALONE:
            continue
        if marker == _END:
            raise ValueError("it ends before its pixels")
        data = _segment(file, marker)
        if marker in _FRAMES:
            if len(data) < 6:
                raise ValueError("its frame header is cut off")
            depth, height, width, channels = struct.unpack_from(">BHHB", data)
        elif marker == _APP1 and data.startswith(b"Exif\0\0") and turned is None:
            turned = orientation(data)
        elif marker == _APP1 and data.startswith(_XMP):
            elsewhere = True
    if not channels:
        raise ValueError("it has no frame header")
    if not verify:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        if b"\xff\xd9" not in file.read():
            raise ValueError("it ends without an end-of-image marker")
    header = Header("JPEG", height, width, depth=depth, channels=channels, orientation=turned or 1)
    header.elsewhere = elsewhere and turned is None
    header.plain = channels in (1, 3) and depth == 8
    return header


def _marker(file: IO[bytes]) -> int:
    byte = file.read(1)
    if byte != b"\xff":
        raise ValueError("it is cut off" if not byte else "its segments are damaged")
    while byte == b"\xff":
        byte = file.read(1)
    if not byte or byte == b"\0":
        raise ValueError("its segments are damaged")
    return byte[0]


def _segment(file: IO[bytes], marker: int) -> bytes:
    size = file.read(2)
    length = int.from_bytes(size, "big") - 2
    if len(size) < 2 or length < 0:
        raise ValueError("its segments are damaged")
    data = file.read(length)
    if len(data) < length:
        raise ValueError(f"its segment {marker:#x} is cut off")
    return data
