"""Folders of label files: list their classes, and copy them with contiguous numbers if theirs have gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mask2former.custom.source import DataError, DataSource, with_colours
from mask2former.data.datasets.categories import Category
from mask2former.data.datasets.readers import LABEL_SUFFIXES, with_suffix
from mask2former.data.datasets.spec import IGNORE_LABEL
from mask2former.data.images.read import read_labels

MOST_CLASSES = 1000  # files with more values hold something other than class numbers


def label_values(sources: Sequence[DataSource]) -> set[int]:
    """Return every number that occurs in the label files, including the ignored one.

    Raises:
        DataError: a file cannot be read, or there are over ``MOST_CLASSES`` numbers, too many for classes.
    """
    values: set[int] = set()
    for source in sources:
        for path in label_files(source):
            try:
                values.update(np.unique(read_labels(str(path))).tolist())
            except ValueError as error:
                raise DataError(str(error)) from error
            if len(values) > MOST_CLASSES:
                raise DataError(f"{path}: over {MOST_CLASSES} different labels so far. Are these class numbers?")
    return values


def label_files(source: DataSource) -> list[Path]:
    assert source.pngs is not None
    return sorted(with_suffix(Path(source.pngs).iterdir(), LABEL_SUFFIXES))


def label_categories(values: set[int], ignore_label: int, names: Sequence[str]) -> list[Category]:
    """Return the classes of label files; ``id`` is the number that stands for the class in them.

    Args:
        values: numbers that occur.
        ignore_label: label of pixels without a class; if it does not occur, no pixel is ignored.
        names: names of the classes; if empty, they are named by their numbers. There must be as many names as
            numbers that occur, or more than the largest number: then name i is that of number i, shown or not.

    Raises:
        DataError: there is no class, or the names do not fit.
    """
    present = sorted(values - {ignore_label})
    if ignore_label == IGNORE_LABEL and present == [0] and IGNORE_LABEL in values:
        raise DataError(
            'The only labels are 0 and 255, and 255 means "ignore this pixel". If 255 is a class (masks drawn in '
            "black and white), give --ignore-label -1."
        )
    if not present:
        raise DataError(f"No label file holds a class: only {ignore_label} was found, which is ignored.")
    if names and present[-1] < len(names):
        present = list(range(len(names)))
    if names and len(names) != len(present):
        raise DataError(f"--classes has {len(names)} names, but the labels are {present}.")
    called = names or [f"class {value}" for value in present]
    return with_colours(
        [{"id": value, "name": name, "isthing": 0} for value, name in zip(present, called, strict=True)]
    )


def has_holes(categories: Sequence[Category], ignore_label: int) -> bool:
    """Tell whether the label files must be rewritten before a model can learn from them."""
    return [category["id"] for category in categories] != list(range(len(categories))) or ignore_label < 0


def write_contiguous(source: DataSource, categories: Sequence[Category], folder: Path) -> DataSource:
    """Copy the label files to ``folder`` with the numbers 0 to K - 1, and 255 (65535 if K > 255) for no class."""
    numbers = {category["id"]: place for place, category in enumerate(categories)}
    folder.mkdir(parents=True, exist_ok=True)
    for path in label_files(source):
        labels = read_labels(str(path))
        save_labels(_replaced(labels, numbers, len(categories)), folder / f"{path.stem}{suffix(len(categories))}")
    return DataSource("semantic", source.images, pngs=str(folder))


def ignored(num_classes: int) -> int:
    """Return the label of pixels without a class in the files that this module writes."""
    return IGNORE_LABEL if num_classes <= IGNORE_LABEL else 65535


def suffix(num_classes: int) -> str:
    return ".png" if num_classes <= IGNORE_LABEL else ".tif"


def save_labels(labels: np.ndarray, path: Path) -> None:
    """Write labels [H, W] uint8 or uint16 as TIFF if ``path`` ends in ".tif", else as PNG."""
    Image.fromarray(labels).save(path, format="TIFF" if path.suffix == ".tif" else "PNG")


def _replaced(labels: np.ndarray, numbers: Mapping[int, int], num_classes: int) -> np.ndarray:
    values, places = np.unique(labels, return_inverse=True)
    blank = ignored(num_classes)
    dtype = np.uint8 if blank == IGNORE_LABEL else np.uint16
    table = np.array([numbers.get(value, blank) for value in values.tolist()], dtype)
    return table[places].reshape(labels.shape)
