"""Checks of COCO's files: instances (one json) and panoptic (a json and pngs of segment ids)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager
from pycocotools import mask as coco_mask

from mask2former.data.checks.report import Report
from mask2former.data.mapper.image_io import join_below, read_panoptic_ids
from mask2former.data.rle.decode import object_runs

SAME_MASK = 0.95  # intersection over union from which two masks of an image are taken for one object
Names = Mapping[Any, str]  # category id -> name
Sizes = dict[Any, tuple[int, int]]  # image id -> (H, W)


class _Survived(ValueError):
    """A fault of a mask that training gets over: it draws what lies in the image, and leaves out the rest."""


def check_instances(json_file: str, image_root: str, names: Names | None = None, decode: bool = False) -> Report:
    """Images, ids, categories and masks of a COCO instance file.

    Args:
        json_file: annotation file.
        image_root: folder of the images.
        names: category id -> name; the file's own when None.
        decode: read every image whole.
    """
    report = Report()
    content = _load(report, json_file)
    names = _categories(report, content, json_file) if names is None else names
    sizes = _images(report, content, json_file, image_root, decode)
    masks: dict[Any, list[tuple[Any, Any]]] = defaultdict(list)  # image id -> annotation id, compressed mask
    annotations = _entries(report, content, "annotations", json_file)
    for number in _twice([annotation["id"] for annotation in annotations if "id" in annotation]):
        report.fault(json_file, f"annotation {number}: the id occurs twice", survived=True)
    for position, annotation in enumerate(annotations):
        number = annotation.get("id", f"number {position}")
        where = f"annotation {number}"
        size = _owner(report, annotation, sizes, names, json_file, where)
        if size is None:
            continue
        try:
            mask = _compressed(annotation.get("segmentation"), size)
        except ValueError as error:
            report.fault(json_file, f"{where}: {error}", survived=isinstance(error, _Survived))
            continue
        area = int(coco_mask.area(mask))
        if area == 0:
            report.fault(json_file, f"{where}: its mask is empty", survived=True)
        elif annotation.get("iscrowd", 0):
            report.counts["crowds"] += 1
        else:
            masks[annotation["image_id"]].append((number, mask))
            report.add(names[annotation["category_id"]], annotation["image_id"], area)
    report.counts["images without objects"] = len(sizes.keys() - masks.keys())
    for image_id, members in masks.items():
        _check_overlaps(report, members, f"image {image_id}", json_file)
    return report


def check_panoptic(
    panoptic_json: str, panoptic_root: str, image_root: str, names: Names | None = None, decode: bool = False
) -> Report:
    """Images, ids and categories of a COCO panoptic file, and its pngs against it.

    Args:
        panoptic_json: annotation file.
        panoptic_root: folder of the pngs.
        image_root, names, decode: as for :func:`check_instances`.
    """
    report = Report()
    content = _load(report, panoptic_json)
    names = _categories(report, content, panoptic_json) if names is None else names
    sizes = _images(report, content, panoptic_json, image_root, decode)
    entries = _entries(report, content, "annotations", panoptic_json)
    for image_id in _twice([entry.get("image_id") for entry in entries]):
        report.fault(panoptic_json, f"image {image_id} has several annotations; panoptic images have one")
    for image_id in sizes.keys() - {entry.get("image_id") for entry in entries}:
        report.fault(panoptic_json, f"image {image_id} has no annotation", survived=True)
    for entry in entries:
        where = f"annotation of image {entry.get('image_id')}"
        if entry.get("image_id") not in sizes:
            report.fault(panoptic_json, f"{where}: 'images' does not list it")
            continue
        try:
            png = join_below(panoptic_root, entry.get("file_name"), where)
            ids = read_panoptic_ids(png)
        except FileNotFoundError:
            report.fault(png, f"{where}: the png is missing")
            continue
        except ValueError as error:
            report.fault(panoptic_json, str(error))
            continue
        if ids.shape != sizes[entry["image_id"]]:
            report.fault(png, f"its size (height, width) is {ids.shape}, the image's {sizes[entry['image_id']]}")
        segments = _entries(report, entry, "segments_info", f"{panoptic_json}, {where}")
        _check_segments(report, segments, ids, names, png, where)
    return report


def _check_segments(
    report: Report, segments: Sequence[Mapping[str, Any]], ids: np.ndarray, names: Names, png: str, where: str
) -> None:
    areas = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True))
    for number in _twice([segment.get("id") for segment in segments]):
        report.fault(png, f"{where}: segment {number} is listed twice")
    for segment in segments:
        number, category = segment.get("id"), segment.get("category_id")
        area = areas.get(number, 0)
        if category not in names:
            report.fault(png, f"{where}, segment {number}: category {category!r} is not one of the data set's")
        elif not area:
            report.fault(png, f"{where}, segment {number}: it is listed, but no pixel has its id", survived=True)
        elif segment.get("iscrowd", 0):
            report.counts["crowds"] += 1
        else:
            report.add(names[category], png, area)
        if area and segment.get("area", area) != area:
            text = f"{where}, segment {number}: its area is {area} pixels, not {segment['area']}"
            report.fault(png, text, survived=True)
    listed = {segment.get("id") for segment in segments}
    for number in areas.keys() - listed - {0}:
        text = f"{where}: {areas[number]} pixels have the id {number}, which is not listed"
        report.fault(png, text, survived=True)
    report.counts["pixels of no segment"] += areas.get(0, 0) if 0 not in listed else 0


def _owner(
    report: Report, annotation: Mapping[str, Any], sizes: Sizes, names: Names, file: str, where: str
) -> tuple[int, int] | None:
    """The size of the annotation's image, where image and category are known."""
    image_id, category = annotation.get("image_id"), annotation.get("category_id")
    if image_id not in sizes:
        report.fault(file, f"{where}: its image {image_id!r} is not listed in 'images', or has no size there")
        return None
    if category not in names:
        report.fault(file, f"{where}: category {category!r} is not one of the data set's")
        return None
    return sizes[image_id]


def _compressed(segmentation: Any, size: tuple[int, int]) -> Any:
    """pycocotools' run lengths of polygons or of run lengths. Raises ValueError where they are broken."""
    height, width = size
    if isinstance(segmentation, dict):
        object_runs(segmentation, size)  # pycocotools checks nothing
        if isinstance(segmentation["counts"], list):
            return coco_mask.frPyObjects(segmentation, height, width)
        return segmentation
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("it has no mask")
    polygons = []
    for coordinates in segmentation:
        points = np.asarray(coordinates, np.float64)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            few = points.ndim == 1 and len(points) in (0, 2, 4) and np.isfinite(points).all()
            kind = _Survived if few else ValueError
            raise kind("a polygon has to be three or more points x0, y0, x1, y1, ...")
        x, y = points[::2], points[1::2]
        if min(x.min(), y.min()) < -1 or x.max() > width + 1 or y.max() > height + 1:
            raise _Survived(f"a polygon leaves the image of {height} x {width} (height, width)")
        polygons.append(points.tolist())
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def _check_overlaps(report: Report, members: Sequence[tuple[Any, Any]], where: str, file: str) -> None:
    masks = [mask for _, mask in members]
    overlaps = np.triu(coco_mask.iou(masks, masks, [0] * len(masks)), 1)
    report.counts["pairs of masks that overlap"] += int((overlaps > 0).sum())
    for first, second in np.argwhere(overlaps >= SAME_MASK).tolist():
        share = f"{overlaps[first, second]:.2f}"
        numbers = f"{members[first][0]} and {members[second][0]}"
        text = f"{where}: annotations {numbers} are one mask twice (intersection over union {share})"
        report.fault(file, text, survived=True)


def _images(report: Report, content: Mapping[str, Any], source: str, image_root: str, decode: bool) -> Sizes:
    sizes: Sizes = {}
    images = _entries(report, content, "images", source)
    for image_id in _twice([image.get("id") for image in images]):
        report.fault(source, f"image {image_id}: the id occurs twice")
    for image in images:
        where = f"image {image.get('id')}"
        height, width = image.get("height"), image.get("width")
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            sizes[image.get("id")] = (height, width)
        else:
            report.fault(source, f"{where}: height and width are {height!r} and {width!r}")
        try:
            path = join_below(image_root, image.get("file_name"), where)
        except ValueError as error:
            report.fault(source, str(error))
            continue
        found = report.image_size(path, decode)
        if found is not None and found != (height, width):
            said = (height, width)
            report.fault(path, f"{where}: the image's size (height, width) is {found}; {source} says {said}")
    return sizes


def _load(report: Report, path: str) -> Mapping[str, Any]:
    try:
        with PathManager.open(path, "r") as file:
            content = json.load(file)
    except FileNotFoundError:
        report.fault(path, "the file is missing")
        return {"images": [], "annotations": []}
    except ValueError as error:
        report.fault(path, f"not a json file ({error})")
        return {"images": [], "annotations": []}
    return content if isinstance(content, dict) else {}


def _entries(report: Report, content: Mapping[str, Any], key: str, source: str) -> list[dict[str, Any]]:
    """The objects of a list; anything else in it is a fault, and left out."""
    entries = content.get(key)
    if not isinstance(entries, list):
        report.fault(source, f"{key!r} has to be a list of objects")
        return []
    sound = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            report.fault(source, f"{key!r}, number {position}: found a {type(entry).__name__}, not an object")
        elif any(isinstance(entry.get(id_), list | dict) for id_ in ("id", "image_id", "category_id")):
            report.fault(source, f"{key!r}, number {position}: an id is a number or a text")
        else:
            sound.append(entry)
    return sound


def _categories(report: Report, content: Mapping[str, Any], source: str) -> Names:
    categories = _entries(report, content, "categories", source)
    for number in _twice([category.get("id") for category in categories]):
        report.fault(source, f"category {number}: the id occurs twice")
    return {category.get("id"): str(category.get("name")) for category in categories}


def _twice(values: Sequence[Any]) -> list[Any]:
    seen: set[Any] = set()
    return [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
