"""From annotation files to Detectron2's data set dicts, one reader for each file format.

A reader lists images and what is known of them and opens none. Category ids come out contiguous. Images without
annotations are kept: a model has to learn from empty scenes too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from mask2former.data.mapper.image_io import join_below

Record = dict[str, Any]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".tif")  # tif: 16 bits, for more than 255 classes


def read_coco_panoptic(
    panoptic_json: str,
    panoptic_root: str,
    image_root: str,
    thing_ids: Mapping[int, int],
    stuff_ids: Mapping[int, int],
    sem_seg_root: str | None = None,
    only_images: Collection[int] | None = None,
) -> list[Record]:
    """COCO panoptic: one json and an RGB png of segment ids for each image.

    Args:
        panoptic_json: annotation file.
        panoptic_root: folder of the pngs.
        image_root: folder of the images.
        thing_ids: category id -> contiguous id of the things.
        stuff_ids: category id -> contiguous id of the rest (may hold the things too).
        sem_seg_root: folder of semantic pngs of the same names, for the evaluation of mIoU.
        only_images: image ids to read; all when None.

    Returns:
        Dicts with ``file_name, image_id, height, width, segments_info`` and, for annotated images,
        ``pan_seg_file_name`` and ``sem_seg_file_name``. A segment has contiguous ``category_id`` and ``isthing``.
    """
    content = _load_json(panoptic_json)
    annotations = {}
    for annotation in _entries(content, "annotations", panoptic_json):
        image_id = _value(annotation, "image_id", f"{panoptic_json}, an annotation")
        if image_id in annotations:
            raise ValueError(f"{panoptic_json}: image {image_id} has two annotations; panoptic images have one.")
        annotations[image_id] = annotation

    records = []
    for image_id, record in _images(content, panoptic_json, image_root).items():
        annotation = annotations.pop(image_id, None)
        if only_images is not None and image_id not in only_images:
            continue
        record["segments_info"] = []
        if annotation is not None:
            where = f"{panoptic_json}, annotation of image {image_id}"
            png = _value(annotation, "file_name", where)
            record["pan_seg_file_name"] = join_below(panoptic_root, png, where)
            if sem_seg_root is not None:
                record["sem_seg_file_name"] = join_below(sem_seg_root, png, where)
            for segment in _entries(annotation, "segments_info", where):
                category = _value(segment, "category_id", where)
                isthing = category in thing_ids
                contiguous = thing_ids.get(category, stuff_ids.get(category))
                _require_category(contiguous, category, f"{where}, segment {segment.get('id')}")
                record["segments_info"].append({**segment, "category_id": contiguous, "isthing": isthing})
        records.append(record)
    _require_known_images(annotations, panoptic_json)
    return records


def read_coco_instances(json_file: str, image_root: str, thing_ids: Mapping[int, int]) -> list[Record]:
    """COCO instances: polygons, or run lengths (RLE) compressed or not.

    Args:
        json_file: annotation file.
        image_root: folder of the images.
        thing_ids: category id -> contiguous id.

    Returns:
        Dicts with ``file_name, image_id, height, width, annotations``; an annotation has ``id, category_id,
        iscrowd, segmentation, bbox, bbox_mode`` as far as they are given.
    """
    content = _load_json(json_file)
    records = _images(content, json_file, image_root)
    for record in records.values():
        record["annotations"] = []
    strangers = []
    for annotation in _entries(content, "annotations", json_file):
        where = f"{json_file}, annotation {annotation.get('id')}"
        image_id, category = _value(annotation, "image_id", where), _value(annotation, "category_id", where)
        if image_id not in records:
            strangers.append(image_id)
            continue
        _require_category(thing_ids.get(category), category, where)
        kept = {key: annotation[key] for key in ("id", "iscrowd", "segmentation", "bbox") if key in annotation}
        kept.update(category_id=thing_ids[category], bbox_mode=BoxMode.XYWH_ABS)
        records[image_id]["annotations"].append(kept)
    _require_known_images(strangers, json_file)
    return list(records.values())


def read_sem_seg(image_root: str, sem_seg_root: str) -> list[Record]:
    """Semantic label files: one an image, of the same name but for the suffix; pixels are contiguous class numbers.

    Returns:
        Dicts with ``file_name, image_id`` (the name without suffix) and ``sem_seg_file_name``.
    """
    images = _files_by_stem(image_root, IMAGE_SUFFIXES)
    labels = _files_by_stem(sem_seg_root, LABEL_SUFFIXES)
    for root, other, missing in (
        (image_root, sem_seg_root, sorted(labels.keys() - images.keys())),
        (sem_seg_root, image_root, sorted(images.keys() - labels.keys())),
    ):
        if missing:
            raise FileNotFoundError(
                f"{root} lacks a file for {len(missing)} of the names in {other}, {missing[0]!r} the first. "
                "Each image needs its label file; add them, or take the others away."
            )
    return [{"file_name": images[stem], "image_id": stem, "sem_seg_file_name": labels[stem]} for stem in sorted(images)]


def _images(content: Mapping[str, Any], source: str, image_root: str) -> dict[Any, Record]:
    """The images that a COCO file lists, by id and in the order of the file."""
    records: dict[Any, Record] = {}
    for image in _entries(content, "images", source):
        image_id = _value(image, "id", f"{source}, an image")
        where = f"{source}, image {image_id}"
        if image_id in records:
            raise ValueError(f"{where}: the id occurs twice.")
        records[image_id] = {
            "file_name": join_below(image_root, _value(image, "file_name", where), where),
            "image_id": image_id,
            "height": _value(image, "height", where),
            "width": _value(image, "width", where),
        }
    return records


def _load_json(path: str) -> Mapping[str, Any]:
    with PathManager.open(path, "r") as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not a json file ({error}). Is it whole?") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found a json {type(content).__name__}; a COCO file is an object with 'images'.")
    return content


def _entries(content: Mapping[str, Any], key: str, source: str) -> list[Any]:
    entries = _value(content, key, source)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{source}: {key!r} has to be a list of objects.")
    return entries


def _value(entry: Mapping[str, Any], key: str, source: str) -> Any:
    if key not in entry:
        raise ValueError(f"{source}: the key {key!r} is missing; found {sorted(entry)}.")
    return entry[key]


def _require_category(contiguous: int | None, category: object, source: str) -> None:
    if contiguous is None:
        raise ValueError(
            f"{source}: category {category!r} is not one of this data set's. "
            "Correct the file, or register it with its own categories."
        )


def _require_known_images(image_ids: Collection[object], source: str) -> None:
    if image_ids:
        raise ValueError(
            f"{source}: {len(image_ids)} annotations are of images that 'images' does not list, "
            f"image {next(iter(image_ids))!r} the first."
        )


def _files_by_stem(root: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(PathManager.ls(root)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in suffixes and not name.startswith("."):
            if stem in found:
                raise ValueError(f"{root}: {os.path.basename(found[stem])} and {name} differ only in their suffix.")
            found[stem] = os.path.join(root, name)
    if not found:
        raise FileNotFoundError(f"{root} holds no {'/'.join(suffixes)} files; see datasets/README.md for the layout.")
    return found
