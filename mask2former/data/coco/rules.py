"""Rules for single values of annotation files. They return None or raise :class:`ValueError` for invalid ones."""

from __future__ import annotations

import os
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

MAX_SEGMENT_ID = 256**3 - 1  # R + 256 G + 65536 B
MAX_PIXELS = 2**31  # in an image; pycocotools counts in 32 bits


def whole_number(value: Any) -> int | None:
    """Return an int, or a float without a fraction (7.0, as pandas writes it), as int; None for anything else."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def identifier(value: Any) -> int | str | None:
    """Return an id: a whole number or a text; None for anything else."""
    return value if isinstance(value, str) and value else whole_number(value)


def crowd_flag(value: Any) -> bool:
    """Tell whether ``iscrowd`` marks a crowd. It may be 0, 1, false or true; null stands for 0."""
    if value is None:
        return False
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise ValueError(f"iscrowd is {value!r:.40}; it has to be 0 or 1")


def segment_id(value: Any) -> int:
    """Return the id of a panoptic segment, 1 to 2^24 - 1."""
    number = whole_number(value)
    if number == 0:
        raise ValueError("segment 0: the id 0 stands for pixels of no segment; number segments from 1")
    if number is None or not 0 < number <= MAX_SEGMENT_ID:
        raise ValueError(f"segment {value!r:.40}: segment ids are integers from 1 to {MAX_SEGMENT_ID}")
    return number


def image_size(height: Any, width: Any) -> tuple[int, int]:
    """Return (H, W) in pixels."""
    rows, columns = whole_number(height), whole_number(width)
    if rows is None or columns is None or min(rows, columns) < 1 or rows * columns >= MAX_PIXELS:
        raise ValueError(f"height and width are {height!r:.40} and {width!r:.40}; they have to be numbers of pixels")
    return rows, columns


def join_below(root: str, name: object, source: str) -> str:
    """Join ``root`` with a file name from an annotation file, which must not lead out of ``root``.

    Annotation files come from strangers, so a name may be ``../../etc/passwd``. Only the name is checked: symbolic
    links below ``root`` are the user's own and are followed.

    Args:
        root: folder on this machine, or a URL that Detectron2's ``PathManager`` knows.
        name: the file name found, relative to ``root``.
        source: where it was found (file and id), for the error.

    Raises:
        ValueError: the name is absolute, contains "..", or is not a text.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{source}: the file name is {name!r:.80}; it has to be a path relative to {root}")
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if windows.anchor or posix.is_absolute() or ".." in windows.parts or "://" in name:
        raise ValueError(
            f"{source}: the file name {name!r} leads out of {root}. Only paths below that folder are read; "
            "correct the annotation file"
        )
    return os.path.join(root, name)
