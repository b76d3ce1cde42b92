"""Orientation of photographs: read it from EXIF data, and turn pixels by it."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import torch

from mask2former.data.images.bands import from_below

ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
_NUMBER = {1: "B", 3: "H", 4: "I"}  # EXIF's types of whole numbers


def orientation(exif: bytes) -> int:
    """Return the orientation of EXIF data, 1 to 8; 1 where it says none, or a number that has no meaning.

    Args:
        exif: a TIFF header and its directory, with or without "Exif" in front.

    Raises:
        ValueError: the directory is damaged, so that the orientation is unknown.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        if order is None:
            raise ValueError("the byte order is neither II nor MM")
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, place)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + _NUMBER.get(kind, "H"), data, place + 8)
                return value if 1 <= value <= 8 else 1
    except (struct.error, ValueError) as error:
        raise ValueError(f"its EXIF data is damaged ({error}), so that its orientation is unknown") from error
    return 1


def turn(pixels: np.ndarray, code: int) -> np.ndarray:
    """Turn pixels [H, W] or [H, W, C] as the orientation ``code``, 1 to 8, says.

    They are of no use afterwards: the result has their memory, or it is released step by step.
    """
    if code in SIDEWAYS:
        pixels = _transposed(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(code)  # left-right, both, up-down
    return pixels if flip is None else cv2.flip(pixels, flip, dst=pixels)


def _transposed(pixels: np.ndarray) -> np.ndarray:
    height, width, *channels = pixels.shape
    # Not np.empty, which asks for pages of 2 MB: each band writes to all of those, and to few of 4 kB.
    memory = torch.empty(pixels.nbytes, dtype=torch.uint8).numpy()
    result = memory.view(pixels.dtype).reshape(width, height, *channels)
    for top, band in from_below(pixels):
        cv2.transpose(band, dst=result[:, top : top + len(band)])
    return result
