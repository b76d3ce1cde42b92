"""Read image files, with errors that name the file."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import IO

import cv2
import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

EXIF_ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
_DEEP = re.compile(r";16[BLN]$")  # Pillow's names of raw pixels with 16 bits a channel


def read_image(path: str, image_format: str) -> np.ndarray:
    """Read an image as [H, W, 3] uint8 (or [H, W, 1] for format "L"), turned as its EXIF entry says.

    Args:
        path: image file with 8 bits a channel; grey, palette and alpha images are converted.
        image_format: "RGB", "BGR" or another format of Detectron2's ``read_image``.

    Raises:
        ValueError: it is not a readable image, or has more than 8 bits a channel (see :func:`require_8_bits`).
    """
    _open_8_bits(path)
    return _read(path, image_format)


def file_size(path: str, decode: bool = False) -> tuple[int, int]:
    """Return (H, W) of an image file, turned as its EXIF entry says.

    Args:
        path: the file.
        decode: decode the whole file. Otherwise PNG and JPEG files are only decoded if their last bytes lack the end
            marker of the format.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or has more than 8 bits a channel.
    """
    with _named(path), PathManager.open(path, "rb") as file, Image.open(file) as image:
        require_8_bits(image, path)
        kind, (width, height) = image.format, image.size
        if image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:
            width, height = height, width
        if decode or not _ends_whole(file, kind):
            image.load()
    return height, width


def _ends_whole(file: IO[bytes], kind: str | None) -> bool:
    """Tell whether a PNG or JPEG file has the end marker of its format; False for other formats."""
    mark = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}.get(kind or "")
    if mark is None:
        return False
    place = file.tell()
    try:
        file.seek(-min(12, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return mark in file.read()
    finally:
        file.seek(place)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file in the errors that Pillow raises for broken files."""
    try:
        yield
    except FileNotFoundError:
        raise  # names the file already
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        what = "not an image that Pillow can read" if isinstance(error, UnidentifiedImageError) else "it cannot be read"
        raise ValueError(f"{path}: {what} ({error}). Is the file whole?") from error


def require_8_bits(image: Image.Image, source: str) -> None:
    """Refuse an image of more than 8 bits a channel: Pillow would clip grey ones, and drop the lower bits of colours.

    Args:
        image: an image just opened; once its pixels are read, Pillow no longer knows their format in the file.
        source: where the image is from, for the error.

    Raises:
        ValueError: the image has more than 8 bits a channel.
    """
    deep = [image.mode] if image.mode.startswith("I") or image.mode == "F" else []
    for codec, _, _, arguments in getattr(image, "tile", ()):
        stored, *more = arguments if isinstance(arguments, tuple) else (arguments,)
        if _DEEP.search(str(stored)) or (codec.startswith("ppm") and more and more[0] > 255):
            deep.append(str(stored))
    if deep:
        raise ValueError(
            f"{source}: the image has more than 8 bits a channel (mode {deep[0]!r}); convert it to 8 bits, "
            "scaled to the range that matters in it."
        )


def read_labels(path: str) -> np.ndarray:
    """Read a label image as [H, W] integers: the pixels' numbers (palette indices), not their colours."""
    labels = _read(path, None)
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise ValueError(
            f"{path}: found an array of shape {labels.shape}, {labels.dtype}; a semantic label image has one channel "
            "of whole numbers. Convert colours to class numbers first."
        )
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def read_panoptic_ids(path: str) -> np.ndarray:
    """Read a COCO panoptic png as [H, W] uint32 segment ids: R + 256 G + 65536 B."""
    with PathManager.open(path, "rb") as file:
        pixels = _plain_png(file.read())
    if pixels is None:
        _open_8_bits(path)
        rgba = cv2.cvtColor(_read(path, "RGB"), cv2.COLOR_RGB2RGBA)
    else:
        rgba = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGBA)
    ids: np.ndarray = rgba.view("<u4")[..., 0]
    ids &= 0xFFFFFF
    return ids


def panoptic_png(ids: np.ndarray) -> np.ndarray:
    """Convert segment ids [H, W] to COCO's image [H, W, 3] uint8, RGB: id = R + 256 G + 65536 B."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def _plain_png(content: bytes) -> np.ndarray | None:
    """Decode a plain png of 8-bit RGB as [H, W, 3] uint8, BGR; return None for all others and for broken ones.

    OpenCV takes two thirds of Pillow's time, and rejects every file that Pillow rejects.
    """
    is_plain = content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR" and content[24:26] == b"\x08\x02"
    if not is_plain or any(chunk in content for chunk in (b"eXIf", b"tRNS", b"acTL")):  # turned, alpha, animated
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def _open_8_bits(path: str) -> None:
    with _named(path), PathManager.open(path, "rb") as file, Image.open(file) as image:
        require_8_bits(image, path)


def _read(path: str, image_format: str | None) -> np.ndarray:
    with _named(path):
        return detection_utils.read_image(path, format=image_format)
