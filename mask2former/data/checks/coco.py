"""Checks of COCO's files: instances (one json) and panoptic (a json and pngs of segment ids).

Faults in the json are found by the reader that training uses too (:mod:`mask2former.data.coco`); this module checks
images and masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.data.checks.report import PNG_MISSING, Report
from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.file import Images, load_json, read_images
from mask2former.data.coco.instances import read_instances
from mask2former.data.coco.masks import encode_segmentation, remarks
from mask2former.data.coco.measures import measured
from mask2former.data.coco.panoptic import CocoPanoptic, read_panoptic
from mask2former.data.images.read import read_panoptic_ids
from mask2former.data.mapper.annotations import NO_SEGMENT_IN_IT

SAME_MASK = 0.95  # intersection over union from which two masks of an image count as the same object
Names = Mapping[Any, str]  # category id -> name


def check_instances(
    json_file: str,
    image_root: str,
    names: Names | None = None,
    decode: bool = False,
    content: Mapping[str, Any] | None = None,
) -> Report:
    """Check the images, ids, categories and masks of a COCO instance file.

    Args:
        json_file: annotation file.
        image_root: folder of the images.
        names: category id -> name; the file's own if None.
        decode: read every image whole.
        content: what the file holds, where it has been read already.
    """
    report = Report(image_root)
    content = load_json(json_file, report) if content is None else content
    names = _names(content, json_file, report, False) if names is None else names
    report.names = tuple(names.values())
    images = read_images(content, json_file, image_root, report)
    _check_images(report, images, json_file, decode)
    masks: dict[Any, list[tuple[str, Any]]] = defaultdict(list)  # image id -> (name of the annotation, run lengths)
    for annotation in read_instances(content, json_file, images, names, report):
        image, where = images[annotation.image_id], annotation.where
        assert image is not None
        try:
            mask = encode_segmentation(annotation.segmentation, image.size)
        except ValueError as error:
            report.fault(json_file, f"{where}: {error}")
            continue
        for remark in (*remarks(annotation.segmentation, image.size), *measured(annotation, image.size).doubts):
            report.fault(json_file, f"{where}: {remark}", survived=True)
        area = int(coco_mask.area(mask))
        if area == 0:
            report.fault(json_file, f"{where}: its mask is empty", survived=True)
        elif annotation.iscrowd:
            report.crowd(names[annotation.category_id])
        else:
            masks[image.id].append((where, mask))
            report.add(names[annotation.category_id], image.id, area)
    report.counts["images without objects"] = len(images.keys() - masks.keys())
    for image_id, members in masks.items():
        _check_overlaps(report, members, f"image {image_id}", json_file)
    return report


def check_panoptic(
    panoptic_json: str, panoptic_root: str, image_root: str, names: Names | None = None, decode: bool = False
) -> Report:
    """Check the images, ids and categories of a COCO panoptic file, and its pngs against it.

    Args:
        panoptic_json: annotation file.
        panoptic_root: folder of the pngs.
        image_root, names, decode: as for :func:`check_instances`.
    """
    report = Report(image_root)
    content = load_json(panoptic_json, report)
    names = _names(content, panoptic_json, report, True) if names is None else names
    report.names = tuple(names.values())
    images = read_images(content, panoptic_json, image_root, report)
    _check_images(report, images, panoptic_json, decode)
    without = set(images)
    for entry in read_panoptic(content, panoptic_json, panoptic_root, images, names, report):
        without.discard(entry.image_id)
        image, where = images[entry.image_id], f"annotation of image {entry.image_id}"
        assert image is not None
        try:
            ids = read_panoptic_ids(entry.png)
        except FileNotFoundError:
            report.fault(entry.png, f"{where}: {PNG_MISSING}")
            continue
        except ValueError as error:
            report.fault(entry.png, f"{where}: {str(error).removeprefix(f'{entry.png}: ')}")
            continue
        if ids.shape != image.size:
            report.fault(entry.png, f"its size (height, width) is {ids.shape}, but the image's is {image.size}")
        _check_segments(report, entry, ids, names, where)
    for image_id in without:
        report.fault(panoptic_json, f"image {image_id} has no annotation", survived=True)
    return report


def _check_segments(report: Report, entry: CocoPanoptic, ids: np.ndarray, names: Names, where: str) -> None:
    areas = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True))
    wanted = [segment.id for segment in entry.segments if not segment.iscrowd]
    if wanted and not any(number in areas for number in wanted):
        report.fault(entry.png, f"{where}: {NO_SEGMENT_IN_IT.format(len(wanted))}")
        return
    for segment in entry.segments:
        area, stated = areas.get(segment.id, 0), segment.stated.get("area")
        if not area:
            text = f"{where}, segment {segment.id}: it is listed, but no pixel has its id"
            report.fault(entry.png, text, survived=True)
        elif segment.iscrowd:
            report.crowd(names[segment.category_id])
        else:
            report.add(names[segment.category_id], entry.image_id, area)
        if area and stated not in (None, area):
            text = f"{where}, segment {segment.id}: its area is {area} pixels, not {stated!r:.40}"
            report.fault(entry.png, text, survived=True)
    for number in areas.keys() - entry.listed - {0}:
        text = f"{where}: {areas[number]} pixels have the id {number}, which is not listed"
        report.fault(entry.png, text, survived=True)
    report.counts["pixels of no segment"] += areas.get(0, 0)


def _check_overlaps(report: Report, members: Sequence[tuple[str, Any]], where: str, file: str) -> None:
    masks = [mask for _, mask in members]
    overlaps = np.triu(coco_mask.iou(masks, masks, [0] * len(masks)), 1)
    report.counts["pairs of masks that overlap"] += int((overlaps > 0).sum())
    for first, second in np.argwhere(overlaps >= SAME_MASK).tolist():
        numbers = " and ".join(members[place][0].removeprefix("annotation ") for place in (first, second))
        share = f"{overlaps[first, second]:.2f}"
        text = f"{where}: annotations {numbers} have the same mask (intersection over union {share})"
        report.fault(file, text, survived=True)


def _check_images(report: Report, images: Images, source: str, decode: bool) -> None:
    for image in images.values():
        found = None if image is None else report.image_size(image.path, decode)
        if image is not None and found is not None and found != image.size:
            text = f"image {image.id}: the image's size (height, width) is {found}; {source} says {image.size}"
            report.fault(image.path, text)


def _names(content: Mapping[str, Any], file: str, report: Report, panoptic: bool) -> Names:
    return {category["id"]: category["name"] for category in read_categories(content, file, panoptic, report)}
