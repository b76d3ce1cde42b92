"""Decode the pixels of an opened image file."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from typing import IO

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from mask2former.data.images.deflate import verify_stream
from mask2former.data.images.exif import turn
from mask2former.data.images.fast_png import decode_png
from mask2former.data.images.header import Header
from mask2former.data.images.native import heard
from mask2former.data.images.opened import pillow
from mask2former.data.images.png import as_grey, pixel_data
from mask2former.data.images.stored import stored_pixels

# Libraries in C read over damage, guess the pixels, and say so on the standard error stream alone. What they say, by
# its beginning, and that part of it which is damage (and no remark on a colour profile).
_SAID = {
    "JPEG": ("Corrupt JPEG data", "Premature end of JPEG", "Inconsistent progression", "Invalid SOS parameters"),
    "PNG": ("libpng ",),
    "TIFF": (
        "TIFF",
        "_TIFF",
        "ZIP",
        "LZW",
        "PackBits",
        "JPEG",
        "OJPEG",
        "Fax",
        "ZSTD",
        "LZMA",
        "Pixar",
        "tempfile.tif",
    ),
}
_DAMAGE = {"JPEG": "", "PNG": r"libpng (error|warning: IDAT)", "TIFF": r"(?!.*Warning)"}
# OpenCV before 4.11 knows the order BGR alone.
_FLAGS = {"BGR": cv2.IMREAD_COLOR} | ({"RGB": cv2.IMREAD_COLOR_RGB} if hasattr(cv2, "IMREAD_COLOR_RGB") else {})
# TIFF's tags: the compression and its numbers for zlib; places and lengths of strips, or of tiles.
_COMPRESSION, _DEFLATE, _PARTS = 259, (8, 32946), ((273, 324), (279, 325))
# From 4.11 on, OpenCV reads into an array that it is given, which saves a copy of the pixels.
_READS_INTO_ARRAYS = "imread(filename[, dst" in (cv2.imread.__doc__ or "")
_LARGE = 1 << 20  # pixels from which on that is worth while
_BAND = 1 << 19  # pixels that Pillow converts at a time; for its image, the converted one and the array take memory


def decode_colours(file: IO[bytes], header: Header, order: str = "RGB") -> np.ndarray:
    """Return the pixels [H, W, 3] uint8 in the order "RGB" or "BGR", turned as EXIF says.

    Raises:
        ValueError: the file is damaged; many other errors for what Pillow reads, see
            :func:`mask2former.data.images.opened.named`.
    """
    fast = decode_png(file, header, 3) if header.kind == "PNG" and header.plain else None
    if fast is not None:
        pixels, found = turn(fast, header.orientation), "RGB"
    elif header.plain:
        flag = _FLAGS.get(order, cv2.IMREAD_COLOR)
        pixels, found = turn(_with_opencv(file, header, flag), header.orientation), order if order in _FLAGS else "BGR"
    else:
        if header.kind == "JPEG":
            _with_opencv(file, header, cv2.IMREAD_REDUCED_GRAYSCALE_8)  # Pillow does not say what libjpeg says
        pixels, found = _with_pillow(file, "RGB", header), "RGB"
    return pixels if found == order else _exchanged(pixels)


def decode_numbers(file: IO[bytes], header: Header) -> np.ndarray:
    """Return the pixels' numbers, not their colours: [H, W] for grey and palette images; turned as EXIF says."""
    if header.kind == "PNG" and header.channels == 1 and header.depth >= 8:
        fast = decode_png(file, header, 1)
        if fast is not None:
            return turn(fast, header.orientation)
        stored = file if header.plain else io.BytesIO(as_grey(file))
        return turn(_with_opencv(stored, header, cv2.IMREAD_UNCHANGED), header.orientation)
    return _with_pillow(file, None, header)


def _exchanged(pixels: np.ndarray) -> np.ndarray:
    """Exchange red and blue in place, some rows at a time, as OpenCV makes a copy of what it is given."""
    rows = max(1, _BAND // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), rows):
        cv2.cvtColor(pixels[top : top + rows], cv2.COLOR_RGB2BGR, dst=pixels[top : top + rows])
    return pixels


def opencv_opens(path: str, system: str = os.name) -> bool:
    """Tell whether OpenCV opens files of this name: on Windows ("nt"), it takes the name to be in a local code page."""
    return system != "nt" or path.isascii()


def _with_opencv(file: IO[bytes], header: Header, flag: int) -> np.ndarray:
    flag |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _damage_heard(header.kind), contextlib.ExitStack() as stack:
            large = _READS_INTO_ARRAYS and header.height * header.width > _LARGE
            place = stack.enter_context(_path(file)) if large else None
            if place is not None:
                # Memory that NumPy gave is not copied. The array stays empty if nothing is read.
                pixels = cv2.imread(place, np.empty((0, 0), np.uint8), flag)
            else:
                pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flag)
    except cv2.error as error:
        raise ValueError(error.err) from error
    if pixels is None or not pixels.size:
        raise ValueError(f"the pixels of this {header.kind} file are damaged or cut off")
    return pixels


@contextlib.contextmanager
def _path(file: IO[bytes]) -> Iterator[str | None]:
    """Yield a path by which OpenCV opens the file, if need be a copy of it in memory; None where there is none."""
    name = getattr(file, "name", None)
    if isinstance(name, str) and opencv_opens(name):
        yield name
    elif os.path.isdir("/proc/self/fd") and hasattr(os, "memfd_create"):
        with open(os.memfd_create("image"), "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            yield f"/proc/self/fd/{copy.fileno()}"
    else:
        yield None


def _with_pillow(file: IO[bytes], mode: str | None, header: Header) -> np.ndarray:
    with pillow(file) as image:
        stored = stored_pixels(file, image, mode, header)
        if stored is not None:
            return turn(stored, header.orientation)
        _verify(file, image)
        if header.orientation == 1 and _opencv_reads(image, mode):
            file.seek(0)
            if mode is None:
                return _with_opencv(file, header, cv2.IMREAD_UNCHANGED)
            pixels = _with_opencv(file, header, _FLAGS.get(mode, cv2.IMREAD_COLOR))
            return pixels if mode in _FLAGS else _exchanged(pixels)
        with _damage_heard(header.kind):
            image.load()  # turns TIFF, and no other format
        ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies an image that it need not turn
        image.info.pop("transparency", None)  # of which Pillow warns; it is dropped here
        return _pixels(image, mode)


def _opencv_reads(image: Image.Image, mode: str | None) -> bool:
    """Tell whether OpenCV reads this TIFF file as Pillow does, in less memory.

    Its checksums have to tell of damage, as OpenCV reads over that, and says so only where its log is switched on.
    """
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(_COMPRESSION) not in _DEFLATE:
        return False
    # The first of the codec's arguments names the pixels in the file; N is the computer's byte order.
    stored = {tile[3][0].removesuffix("N") for tile in image.tile if isinstance(tile[3], tuple)}
    return stored == {image.mode} and image.mode in (("RGB",) if mode else ("L", "I;16"))


def _verify(file: IO[bytes], image: Image.Image) -> None:
    """Verify the checksums of compressed pixels that Pillow does not read."""
    place = file.tell()
    if image.format == "PNG":
        verify_stream(pixel_data(file))
    elif isinstance(image, TiffImageFile) and image.tag_v2.get(_COMPRESSION) in _DEFLATE:
        starts, lengths = (image.tag_v2.get(strips) or image.tag_v2.get(tiles, ()) for strips, tiles in _PARTS)
        for start, length in zip(starts, lengths, strict=True):
            file.seek(start)
            verify_stream([file.read(length)])
    file.seek(place)


@contextlib.contextmanager
def _damage_heard(kind: str) -> Iterator[None]:
    """Make an error of the damage that the library of a format speaks of in the block."""
    if kind not in _SAID:
        yield
        return
    with heard(*_SAID[kind]) as said:
        yield
    for line in said:
        if re.match(_DAMAGE[kind], line):
            raise ValueError(line)


def _pixels(image: Image.Image, mode: str | None) -> np.ndarray:
    """Convert an image to an array, some rows at a time, as copies in Pillow's layout take memory."""
    rows = max(1, _BAND // image.width)
    if rows >= image.height:
        return np.array(image if mode is None else image.convert(mode))
    result: np.ndarray | None = None
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows)))
        part = np.asarray(band if mode is None else band.convert(mode))
        if result is None:
            result = np.empty((image.height, *part.shape[1:]), part.dtype)
        result[top : top + len(part)] = part
    assert result is not None
    return result
