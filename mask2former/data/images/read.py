"""Read image files: colours, label maps and panoptic ids. Every refusal names the file.

PNG files are verified by their checksums. JPEG, WebP and most TIFF files have none: of those, what the decoders notice
is refused.
"""

from __future__ import annotations

import io
from typing import IO

import cv2
import numpy as np
from detectron2.data import detection_utils
from PIL import Image

from mask2former.data.images.bands import from_below
from mask2former.data.images.decode import decode_colours, decode_numbers
from mask2former.data.images.limits import ImageError
from mask2former.data.images.opened import is_deep, named, opened, scan


def read_image(path: str, image_format: str, max_pixels: int | None = None) -> np.ndarray:
    """Read an image as [H, W, 3] uint8 (or [H, W, 1] for format "L"), turned as its EXIF entry says.

    Args:
        path: image file with 8 bits a channel; grey, palette and alpha images are converted.
        image_format: "RGB", "BGR" or another format of Detectron2's ``read_image``.
        max_pixels: refuse larger images; None: the limit of the process.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it is damaged, has too many pixels or more than 8 bits a channel, or is of a format not read.
    """
    with opened(path) as file:
        return _colours(file, path, image_format, max_pixels)


def image_from_bytes(content: bytes, source: str, image_format: str = "RGB") -> np.ndarray:
    """Read the content of an image file like :func:`read_image`; ``source`` is its name, for errors."""
    with named(source):
        return _colours(io.BytesIO(content), source, image_format, None)


def _colours(file: IO[bytes], source: str, image_format: str, max_pixels: int | None) -> np.ndarray:
    header = scan(file, source, True, max_pixels)
    if header.depth > 8:
        raise _too_deep(source, f"{header.depth} bits")
    if image_format in ("RGB", "BGR"):
        return decode_colours(file, header, image_format)
    return detection_utils.convert_PIL_to_numpy(Image.fromarray(decode_colours(file, header)), image_format)


def file_size(path: str, decode: bool = False, max_pixels: int | None = None) -> tuple[int, int]:
    """Return (H, W) of an image file, turned as its EXIF entry says.

    Args:
        path: the file.
        decode: verify and decode the whole file. Otherwise PNG, JPEG and WebP files are only looked through for their
            end, and files of other formats are decoded.
        max_pixels: refuse larger images; None: the limit of the process.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: :func:`read_image` would refuse it.
    """
    with opened(path) as file:
        header = scan(file, path, decode, max_pixels)
        if header.depth > 8:
            raise _too_deep(path, f"{header.depth} bits")
        if decode or header.kind not in ("PNG", "JPEG", "WEBP"):
            decode_colours(file, header)
    return header.size


def require_8_bits(image: Image.Image, source: str) -> None:
    """Refuse an image of more than 8 bits a channel: Pillow would clip grey ones, and drop the lower bits of colours.

    Args:
        image: an image just opened; once its pixels are read, Pillow no longer knows their format in the file.
        source: where the image is from, for the error.

    Raises:
        ImageError: the image has more than 8 bits a channel.
    """
    if deep := is_deep(image):
        raise _too_deep(source, f"mode {deep!r}")


def _too_deep(source: str, found: str) -> ImageError:
    return ImageError(
        f"{source}: the image has more than 8 bits a channel ({found}); convert it to 8 bits, scaled from the range "
        "of values that matters."
    )


def read_labels(path: str, max_pixels: int | None = None) -> np.ndarray:
    """Read a label image as [H, W] integers: the pixels' numbers (palette indices), not their colours.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it is damaged, has too many pixels, is of a format not read, or has several channels.
    """
    with opened(path) as file:
        labels = decode_numbers(file, scan(file, path, True, max_pixels))
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise ImageError(
            f"{path}: found an array of shape {labels.shape}, {labels.dtype}; a semantic label image has one channel "
            "of integers. Convert colours to class numbers first."
        )
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def read_panoptic_ids(path: str, max_pixels: int | None = None) -> np.ndarray:
    """Read a COCO panoptic png as [H, W] uint32 segment ids: R + 256 G + 65536 B.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: :func:`read_image` would refuse it.
    """
    pixels = read_image(path, "RGB", max_pixels)  # the order of the file, which need not be exchanged
    rgba = np.empty((*pixels.shape[:2], 4), np.uint8)
    ids: np.ndarray = rgba.view("<u4")[..., 0]
    for top, band in from_below(pixels):
        here = slice(top, top + len(band))
        cv2.cvtColor(band, cv2.COLOR_RGB2RGBA, dst=rgba[here])
        ids[here] &= 0xFFFFFF
    return ids


def panoptic_png(ids: np.ndarray) -> np.ndarray:
    """Convert segment ids [H, W] to COCO's image [H, W, 3] uint8, RGB: id = R + 256 G + 65536 B."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
