"""The value that a recognised folder gives, and what its recognisers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mask2former.custom.source import DataError, DataSource

TRAIN, VAL, TEST = "train", "val", "test"
_SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
}
_WORDS = re.compile(r"[^a-z]+")


@dataclass(frozen=True)
class FolderData:
    """The data of a folder.

    Attributes:
        form: how the folder was read, for the user.
        train: the images for training.
        val: those for validation; None if the folder has none.
        class_names: names of the classes of label files; empty if the annotation files hold them.
        ignore_label: label of pixels without a class; None: as the user says.
        notes: lines for the user.
    """

    form: str
    train: DataSource
    val: DataSource | None = None
    class_names: tuple[str, ...] = ()
    ignore_label: int | None = None
    notes: list[str] = field(default_factory=list)


def split_of_folder(name: str) -> str | None:
    """Return the split that a folder is named by, such as "valid" or "train2017": "train", "val", "test" or None."""
    return _SPLITS.get(name.lower().rstrip("0123456789"))


def split_of_file(name: str) -> str | None:
    """Return the split that a word of a file's name tells, as in "instances_val2017"; None if none or several do."""
    found = {_SPLITS[word] for word in _WORDS.split(name.lower()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_small(file: Path, most_bytes: int) -> str:
    """Read a text file of at most so many bytes; a byte order mark is dropped.

    Raises:
        DataError: it is larger, or no UTF-8.
    """
    if (size := file.stat().st_size) > most_bytes:
        raise DataError(f"{file}: {size:,} bytes are more than such a file has; at most {most_bytes:,} are read.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not a text file in UTF-8 ({error}).") from error


def from_splits(
    root: Path, form: str, parts: Mapping[str, DataSource], names: tuple[str, ...] = (), ignore: int | None = None
) -> FolderData:
    """Return the data of the parts that a folder has; the images for training may be its only ones.

    Args:
        root: the folder.
        form: as in :class:`FolderData`.
        parts: data by split.
        names, ignore: ``class_names`` and ``ignore_label``.

    Raises:
        DataError: there is nothing to train on.
    """
    if TRAIN not in parts:
        raise DataError(f"{root}: {form}; there are images for {' and '.join(parts) or 'nothing'}, none for training.")
    notes = [f"{root}: {form}."]
    if TEST in parts:
        notes.append(f"{parts[TEST].images} is neither trained on nor used for validation: it is named test.")
    return FolderData(form, parts[TRAIN], parts.get(VAL), names, ignore, notes)
