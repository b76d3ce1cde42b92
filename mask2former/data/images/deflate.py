"""Verify zlib streams, whose checksums the libraries of PNG and TIFF do not all read."""

from __future__ import annotations

import contextlib
import importlib
import zlib
from collections.abc import Iterable
from typing import Any

fastest: Any = zlib
with contextlib.suppress(ImportError):  # PSF licence; takes a twentieth of zlib's time for labels
    fastest = importlib.import_module("zlib_ng.zlib_ng")

_MOST = 1 << 20  # bytes that are inflated at a time


def verify_stream(parts: Iterable[bytes]) -> None:
    """Inflate a stream, given in parts, and forget the result.

    Raises:
        ValueError: it is damaged or cut off.
    """
    stream = fastest.decompressobj()
    try:
        for part in parts:
            while part and not stream.eof:
                stream.decompress(part, _MOST)
                part = stream.unconsumed_tail
    except fastest.error as error:
        raise ValueError(f"its compressed pixels are damaged: {error}") from error
    if not stream.eof:
        raise ValueError("its compressed pixels are cut off")
