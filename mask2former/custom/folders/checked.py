"""Check a folder of another program."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mask2former.custom.folders.opened import open_data
from mask2former.custom.label_files import label_categories, label_values
from mask2former.custom.notes import shared_images
from mask2former.custom.source import DataSource, coco_categories
from mask2former.data.checks import Report, check_instances, check_panoptic
from mask2former.data.checks.dataset import check_labels
from mask2former.data.datasets.spec import IGNORE_LABEL


def check_folder(folder: str, decode: bool = False) -> tuple[list[str], dict[str, Report]]:
    """Check a folder that :func:`open_data` reads; its converted files are removed again.

    Args:
        folder: the folder.
        decode: read every image whole.

    Returns:
        Lines for the user, and the reports, such as that on "instance data, train".

    Raises:
        DataError: the folder has no form that is known, or faults that hinder reading it.
    """
    with tempfile.TemporaryDirectory() as out:
        data = open_data([folder], None, Path(out))
        parts = {"train": data.train, "val": data.val}
        ignore = IGNORE_LABEL if data.ignore_label is None else data.ignore_label
        reports = {
            f"{source.kind} data, {split}": _check(source, data.class_names, ignore, decode)
            for split, source in parts.items()
            if source is not None
        }
        # Faults that stop a training would stop reading the lists of images too.
        sound = not any(report.stopping for report in reports.values())
        shared = shared_images(data.train, data.val) if data.val is not None and sound else []
    return [*data.notes, *shared], reports


def _check(source: DataSource, class_names: Sequence[str], ignore_label: int, decode: bool) -> Report:
    if source.kind == "semantic":
        names = list(class_names) or _numbered(source, ignore_label)
        report = check_labels(source.images, str(source.pngs), names, ignore_label, decode)
        report.names = tuple(class_names)  # numbers in between are no classes that anybody declared
        return report
    names_by_id = {category["id"]: category["name"] for category in coco_categories(source)}
    if source.kind == "panoptic":
        return check_panoptic(str(source.annotations), str(source.pngs), source.images, names_by_id, decode)
    return check_instances(str(source.annotations), source.images, names_by_id, decode)


def _numbered(source: DataSource, ignore_label: int) -> list[str]:
    """Return a name for each number up to the greatest that occurs."""
    greatest = max(category["id"] for category in label_categories(label_values([source]), ignore_label, ()))
    return [f"class {number}" for number in range(greatest + 1)]
