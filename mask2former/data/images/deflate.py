"""Verify zlib streams, whose checksums the libraries of PNG and TIFF do not all read."""

from __future__ import annotations

import contextlib
import importlib
import zlib
from collections.abc import Iterable
from typing import Any

_zlib: Any = zlib
with contextlib.suppress(ImportError):  # PSF licence; takes a twentieth of zlib's time for labels
    _zlib = importlib.import_module("zlib_ng.zlib_ng")

_MOST = 1 << 20  # bytes that are inflated at a time


def verify_stream(parts: Iterable[bytes], size: int | None = None) -> None:
    """Inflate a stream, given in parts, and forget the result.

    Args:
        parts: the stream.
        size: bytes of the result, after which nothing may follow; None: any number, and whatever follows.

    Raises:
        ValueError: it is damaged or cut off, or its size is another.
    """
    stream, found = _zlib.decompressobj(), 0
    try:
        for part in parts:
            while part and not stream.eof:
                found += len(stream.decompress(part, _MOST))
                part = stream.unconsumed_tail
                if size is not None and found > size:
                    raise ValueError(f"it has more compressed pixels than its size ({size} bytes) has room for")
            if size is not None and (part or stream.unused_data):
                raise ValueError("something follows its compressed pixels")
    except _zlib.error as error:
        raise ValueError(f"its compressed pixels are damaged: {error}") from error
    if not stream.eof:
        raise ValueError("its compressed pixels are cut off")
    if size is not None and found != size:
        raise ValueError(f"it has {found} of {size} bytes of pixels")
