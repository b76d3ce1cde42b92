"""Verify zlib streams, whose checksums the libraries of PNG and TIFF do not all read."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

_MOST = 1 << 20  # bytes that are inflated at a time


def verify_stream(parts: Iterable[bytes]) -> None:
    """Inflate a stream, given in parts, and forget the result.

    Raises:
        ValueError: it is damaged or cut off.
    """
    stream = zlib.decompressobj()
    try:
        for part in parts:
            while part and not stream.eof:
                stream.decompress(part, _MOST)
                part = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"its compressed pixels are damaged: {error}") from error
    if not stream.eof:
        raise ValueError("its compressed pixels are cut off")
