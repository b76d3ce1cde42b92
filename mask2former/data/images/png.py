"""PNG files: walk over the chunks and verify the checksum of each."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from mask2former.data.images.exif import orientation
from mask2former.data.images.header import Header

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20
_MOST_EXIF = 1 << 16
_UNUSUAL = (b"tRNS", b"acTL")  # transparent colours, animated
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_CRITICAL = (b"PLTE", b"IDAT", b"IEND")  # after IHDR; an image cannot be read without understanding such chunks
_ORIENTED = (b"XML:com.adobe.xmp", b"Raw profile type")


def scan(file: IO[bytes], verify: bool) -> Header:
    """Read the header of a PNG file.

    Args:
        file: at its start.
        verify: compare the checksum of every chunk; otherwise only walk from chunk to chunk.

    Raises:
        ValueError: a checksum is wrong, or a part is missing.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(len(SIGNATURE))
    header, has_pixels, before, plain, turned, elsewhere = None, False, b"", True, 1, False
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("it ends without an IEND chunk")
        length, kind = struct.unpack(">I4s", head)
        if length + 4 > end - file.tell():
            raise ValueError(f"its chunk {kind!r} is cut off")
        start = _chunk(file, kind, length, verify or header is None)
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise ValueError("it does not begin with an IHDR chunk")
            width, height, depth, colour, _, _, passes = struct.unpack(">IIBBBBB", start)
            channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour, 1)
            header = Header("PNG", height, width, depth=depth, channels=channels, interlaced=passes != 0)
            plain = depth == 8 and colour in (0, 2, 4, 6)
        elif kind[:1].isupper() and kind not in _CRITICAL:
            raise ValueError(f"it has a chunk {kind.decode('latin1')!r} after its IHDR chunk")
        if kind == b"IDAT" and has_pixels and before != b"IDAT":
            raise ValueError("its IDAT chunks, which hold the pixels, do not follow one another")
        plain = plain and kind not in _UNUSUAL
        elsewhere = elsewhere or (kind in _TEXTS and start.startswith(_ORIENTED))
        if kind == b"eXIf":
            turned = orientation(start)
        has_pixels, before = has_pixels or kind == b"IDAT", kind
        if kind == b"IEND":
            break
    if not has_pixels:
        raise ValueError("it has no IDAT chunk, which holds the pixels")
    header.plain, header.orientation, header.elsewhere = plain, turned, elsewhere
    return header


def pixel_data(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the compressed pixels of a file that :func:`scan` found whole."""
    file.seek(len(SIGNATURE))
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            yield file.read(length)
        else:
            file.seek(length, os.SEEK_CUR)
        file.seek(4, os.SEEK_CUR)


def as_grey(file: IO[bytes]) -> bytes:
    """Return a PNG file of grey values that are the numbers in this one: indices of a palette, or grey values.

    It has no palette, no transparent colours and no other pictures. A pixel has to have one channel.

    Args:
        file: a file that :func:`scan` found whole.
    """
    file.seek(len(SIGNATURE) + 8)
    size = file.read(8)
    depth, _, *methods = file.read(5)  # in place of the colour type comes that of grey
    chunks = [(b"IHDR", size + bytes((depth, 0, *methods))), *((b"IDAT", part) for part in pixel_data(file))]
    parts = [SIGNATURE]
    for kind, data in [*chunks, (b"IEND", b"")]:
        checksum = zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big")
        parts += [len(data).to_bytes(4, "big"), kind, data, checksum]
    return b"".join(parts)


def _chunk(file: IO[bytes], kind: bytes, length: int, verify: bool) -> bytes:
    """Pass over a chunk's data and checksum; return the beginning of the data."""
    start = file.read(min(length, _MOST_EXIF if kind == b"eXIf" else 32))
    left = length - len(start)
    if not verify:
        file.seek(left + 4, os.SEEK_CUR)
        return start
    checksum = zlib.crc32(start, zlib.crc32(kind))
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            break
        checksum, left = zlib.crc32(block, checksum), left - len(block)
    if file.read(4) != checksum.to_bytes(4, "big"):
        raise ValueError(f"the checksum of its chunk {kind.decode('latin1')!r} is wrong")
    return start
