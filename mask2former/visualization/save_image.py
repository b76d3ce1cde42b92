"""Write drawn images to files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from mask2former.files import whole_file
from mask2former.visualization.regions import ImageArray

JPEG_QUALITY = 92


def save_image(file: Path, image: ImageArray) -> Path:
    """Write an image, RGB [H, W, 3] or one channel [H, W] of 8 or 16 bits, in the format of the file's suffix.

    Raises:
        OSError: the file cannot be written.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if file.suffix.lower() in (".jpg", ".jpeg") else []
    pixels = np.ascontiguousarray(image[:, :, ::-1]) if image.ndim == 3 else image
    try:
        encoded, content = cv2.imencode(file.suffix, pixels, quality)
    except cv2.error as error:
        raise OSError(f"{file}: no image format has this suffix; .png and .jpg are among those that do.") from error
    if not encoded:
        raise OSError(f"{file}: the format of this suffix cannot hold an image of the shape {image.shape}.")
    with whole_file(file, sync=False) as out:
        out.write(content.tobytes())
    return file


def free_file(file: Path, taken: Collection[Path]) -> Path:
    """Return the file, or the next free name, such as ``name_2.png``: images of different folders may share names.

    Args:
        file: path of a file or a folder.
        taken: paths already written in this run; files of earlier runs are overwritten.
    """
    free, number = file, 2
    while free in taken:
        free, number = file.with_stem(f"{file.stem}_{number}"), number + 1
    return free
