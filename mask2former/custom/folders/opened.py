"""Open data that are given by paths: the forms of :func:`detect_format`, and folders of other programs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mask2former.custom.folders.coco_files import coco_files, locate, read_coco_folder
from mask2former.custom.folders.folder import TRAIN, FolderData
from mask2former.custom.folders.label_colours import find_label_map, read_label_map
from mask2former.custom.folders.labelme import labelme_files, read_labelme_folder
from mask2former.custom.folders.masks import (
    convert_labels,
    find_masks,
    pairs,
    read_label_folders,
    read_mask_folder,
    without_masks,
)
from mask2former.custom.folders.yolo import read_yolo_folder, yolo_file
from mask2former.custom.label_files import ignored
from mask2former.custom.source import FORMS, DataError, DataSource, detect_format
from mask2former.data.images.limits import ImageError

FOLDERS = (
    "  one folder:            as exported by Roboflow or CVAT (COCO or masks), of labelme, of YOLO (data.yaml,\n"
    "                         polygons), of Pascal VOC, of colour masks with labelmap.txt, or a COCO json among images"
)


def open_data(train: Sequence[str], val: Sequence[str] | None, out: Path) -> FolderData:
    """Open the data for training, and those for validation.

    Args:
        train: paths in one of the forms of :func:`mask2former.custom.source.detect_format`, or one folder of another
            program, which may hold the images for validation too.
        val: the same for validation; None: those of the training's folder, if it has any.
        out: folder for what is converted; that of an earlier call is removed.

    Raises:
        DataError: the paths have no form that is known, or the data have faults that hinder reading them.
    """
    out = out / "converted"
    shutil.rmtree(out, ignore_errors=True)
    try:
        data = _open(train, out / "train")
        if val is None:
            return data
        other = _open(val, out / "val")
    except ImageError as error:
        raise DataError(str(error)) from error
    if data.class_names != other.class_names:
        raise DataError(
            f"{other.train} has the classes {', '.join(other.class_names) or 'without names'}, but the training data "
            f"{', '.join(data.class_names) or 'without names'}. Both need the same label map."
        )
    notes = [*data.notes, *other.notes]
    return FolderData(data.form, data.train, other.train, data.class_names, data.ignore_label, notes)


def _open(paths: Sequence[str], out: Path) -> FolderData:
    if len(paths) == 1 and Path(paths[0]).is_dir():
        return _read_folder(Path(paths[0]), out)
    if len(paths) == 1 and Path(paths[0]).is_file() and paths[0].endswith(".json"):
        file = Path(paths[0])
        return read_coco_folder(file.parent, [file], out)
    source = detect_format(paths)
    if source.kind == "semantic":
        return _labels(source, out)
    if source.kind == "video":
        return FolderData("videos", source)
    images = Path(source.images)
    try:
        source, notes = locate(source, [images], images, out / "train.json")
    except DataError:  # the check lists all that are missing, and where such files are
        notes = []
    return FolderData("COCO", source, notes=notes)


def _read_folder(root: Path, out: Path) -> FolderData:
    if (file := yolo_file(root)) is not None:
        return read_yolo_folder(root, file, out)
    if files := coco_files(root):
        return read_coco_folder(root, files, out)
    if files := labelme_files(root):
        return read_labelme_folder(root, files, out)
    if (masks := find_masks(root)) is not None:
        return read_mask_folder(masks, out)
    if (data := read_label_folders(root)) is not None:
        return data
    inside = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise DataError(f"{root}: found {inside}. Give the data in one of these forms:\n{FORMS}\n{FOLDERS}")


def _labels(source: DataSource, out: Path) -> FolderData:
    """Return label files as they are, or converted if a label map beside or in their folder tells their colours."""
    labels = Path(str(source.pngs))
    file = find_label_map(labels, labels.parent)
    if file is None:
        return FolderData("label files", source)
    colours = read_label_map(file)
    stems = pairs(Path(source.images), labels)
    found = convert_labels(stems, colours, out / "images", out / "labels")
    notes = without_masks(Path(source.images), {TRAIN: stems})
    notes += [f"{labels}: colours are turned into classes by {file}."]
    return FolderData("colour masks", found, None, colours.names, ignored(len(colours.names)), notes)
