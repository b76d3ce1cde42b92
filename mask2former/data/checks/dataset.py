"""Checks of a registered data set, chosen by its metadata."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from mask2former.data.checks.coco import check_instances, check_panoptic
from mask2former.data.checks.report import Report
from mask2former.data.checks.videos import check_videos
from mask2former.data.coco.file import load_json
from mask2former.data.coco.videos import lists_videos
from mask2former.data.datasets.readers import IMAGE_SUFFIXES, LABEL_SUFFIXES
from mask2former.data.images.read import read_labels


def check_dataset(name: str, decode: bool = False) -> dict[str, Report]:
    """Check the annotation files that a registered data set's metadata names.

    Args:
        name: name in Detectron2's catalogs.
        decode: decode every image, instead of reading only what tells its size and whether it is whole.

    Returns:
        {"panoptic", "instance" or "semantic": report on these annotations}.

    Raises:
        ValueError: no such data set, or one that has no checks here (Cityscapes' own scripts make and check its files).
    """
    if name not in DatasetCatalog:
        raise ValueError(
            f"No data set {name!r} is registered; choose one of {', '.join(sorted(DatasetCatalog.list()))}."
        )
    meta = MetadataCatalog.get(name)
    if meta.get("gt_dir") or not meta.get("image_root"):
        raise ValueError(f"{name}: files of its kind cannot be checked here (evaluator {meta.evaluator_type}).")
    things = {id_: meta.thing_classes[i] for id_, i in meta.get("thing_dataset_id_to_contiguous_id", {}).items()}
    stuff = {id_: meta.stuff_classes[i] for id_, i in meta.get("stuff_dataset_id_to_contiguous_id", {}).items()}
    reports = {}
    if meta.get("panoptic_json"):
        if meta.get("subset_of"):
            DatasetCatalog.get(name)  # which writes the subset's file
        reports["panoptic"] = check_panoptic(
            meta.panoptic_json, meta.panoptic_root, meta.image_root, stuff | things, decode
        )
    if meta.get("evaluator_type") == "ytvis":
        reports["instance"] = check_videos(meta.json_file, meta.image_root, things, decode)
    elif meta.get("json_file"):
        reports["instance"] = check_instances(meta.json_file, meta.image_root, things, decode)
    if meta.get("sem_seg_root"):
        classes = meta.stuff_classes
        reports["semantic"] = check_labels(meta.image_root, meta.sem_seg_root, classes, meta.ignore_label, decode)
    return reports


def check_annotations(json_file: str, image_root: str, decode: bool = False) -> Report:
    """Check a file of objects and its images: COCO instances, or tracks in videos (YouTube-VIS), which is told from it.

    Args:
        json_file: annotation file, with its own categories.
        image_root: folder of the images, or of the videos' frames.
        decode: as for :func:`check_dataset`.
    """
    faults = Report(image_root)
    content = load_json(json_file, faults)
    if faults.faults:  # not read, so its form is unknown
        return faults
    check = check_videos if lists_videos(content) else check_instances
    return check(json_file, image_root, decode=decode, content=content)


def check_labels(
    image_root: str, sem_seg_root: str, classes: Sequence[str], ignore_label: int, decode: bool = False
) -> Report:
    """Check label files against images of the same names: presence, size, and range of the labels.

    Args:
        image_root: folder of the images.
        sem_seg_root: folder of the label files.
        classes: names of the K classes; labels must be 0 to K - 1 or ``ignore_label``.
        ignore_label: label of pixels without a class.
        decode: as for :func:`check_dataset`.
    """
    report = Report(image_root, names=tuple(classes))
    images = _by_stem(report, image_root, IMAGE_SUFFIXES)
    labels = _by_stem(report, sem_seg_root, LABEL_SUFFIXES)
    for stem in sorted(images.keys() - labels.keys()):
        report.fault(images[stem], f"the image has no label file in {sem_seg_root}")
    for stem in sorted(labels.keys() - images.keys()):
        report.fault(labels[stem], f"the labels have no image in {image_root}")
    for stem in sorted(images.keys() & labels.keys()):
        size = report.image_size(images[stem], decode)
        try:
            found = read_labels(labels[stem])
        except ValueError as error:
            report.fault(labels[stem], str(error).removeprefix(f"{labels[stem]}: "))
            continue
        if size is not None and found.shape != size:
            report.fault(labels[stem], f"the size (height, width) is {found.shape}, but the image's is {size}")
        values, areas = (part.tolist() for part in np.unique(found, return_counts=True))
        if values == [ignore_label]:
            report.fault(labels[stem], "every pixel is ignored", survived=True)
        for value, area in zip(values, areas, strict=True):
            if value == ignore_label:
                report.counts["ignored pixels"] += area
            elif 0 <= value < len(classes):
                report.add(classes[value], stem, area)
            else:
                report.fault(
                    labels[stem],
                    f"{area} pixels have the label {value}; labels have to be below {len(classes)}, or {ignore_label}",
                )
    return report


def _by_stem(report: Report, root: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    if not PathManager.isdir(root):
        report.fault(root, "the folder is missing")
        return {}
    files = [os.path.splitext(name) for name in sorted(PathManager.ls(root)) if not name.startswith(".")]
    found: dict[str, str] = {}
    for stem, suffix in files:
        if suffix.lower() in suffixes:
            if stem in found:
                report.fault(os.path.join(root, stem + suffix), f"it differs from {found[stem]} only in its suffix")
            found[stem] = os.path.join(root, stem + suffix)
    return found
