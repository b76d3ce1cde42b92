"""Read annotation files into Detectron2's data set dicts, one reader for each file format.

A reader lists images and their annotations and opens no image. It makes category ids contiguous. Images without
annotations are kept: a model must learn from empty scenes too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Id, Images, load_json, read_images
from mask2former.data.coco.instances import read_instances
from mask2former.data.coco.panoptic import read_panoptic
from mask2former.data.coco.rules import join_below

Record = dict[str, Any]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".tif")  # tif: 16 bits, for more than 255 classes


def with_suffix(files: Iterable[Path], suffixes: Collection[str]) -> Iterator[Path]:
    """Yield the files of a kind, by their suffix in small letters.

    Hidden ones are none: archives of macOS have a ``._1.png``, which is no image, beside each ``1.png``.
    """
    return (file for file in files if file.suffix.lower() in suffixes and not file.name.startswith("."))


def read_coco_panoptic(
    panoptic_json: str,
    panoptic_root: str,
    image_root: str,
    thing_ids: Mapping[int, int],
    stuff_ids: Mapping[int, int],
    sem_seg_root: str | None = None,
    only_images: Collection[int] | None = None,
) -> list[Record]:
    """Read COCO panoptic annotations: one json, and an RGB png of segment ids for each image.

    Args:
        panoptic_json: annotation file.
        panoptic_root: folder of the pngs.
        image_root: folder of the images.
        thing_ids: category id -> contiguous id of the things.
        stuff_ids: category id -> contiguous id of the stuff (may hold the things too).
        sem_seg_root: folder of semantic pngs of the same names, for the evaluation of mIoU.
        only_images: image ids to read; all if None.

    Returns:
        Dicts with ``file_name, image_id, height, width, segments_info`` and, for annotated images,
        ``pan_seg_file_name`` and, given ``sem_seg_root``, ``sem_seg_file_name``. A segment has its contiguous
        ``category_id`` and ``isthing``.
    """
    sink = FirstFault()
    content = load_json(panoptic_json, sink)
    images = read_images(content, panoptic_json, image_root, sink)
    known = {**stuff_ids, **thing_ids}
    entries = {
        entry.image_id: entry for entry in read_panoptic(content, panoptic_json, panoptic_root, images, known, sink)
    }
    records = []
    for image_id, record in _records(images).items():
        if only_images is not None and image_id not in only_images:
            continue
        record["segments_info"] = []
        if entry := entries.get(image_id):
            record["pan_seg_file_name"] = entry.png
            if sem_seg_root is not None:
                record["sem_seg_file_name"] = join_below(sem_seg_root, entry.file_name, panoptic_json)
            for segment in entry.segments:
                read = {
                    "id": segment.id,
                    "category_id": known[segment.category_id],
                    "iscrowd": int(segment.iscrowd),
                    "isthing": segment.category_id in thing_ids,
                }
                record["segments_info"].append({**segment.stated, **read})
        records.append(record)
    return records


def read_coco_instances(json_file: str, image_root: str, thing_ids: Mapping[int, int]) -> list[Record]:
    """Read COCO instance annotations: polygons, or run lengths (RLE) compressed or not.

    Args:
        json_file: annotation file.
        image_root: folder of the images.
        thing_ids: category id -> contiguous id.

    Returns:
        Dicts with ``file_name, image_id, height, width, annotations``; an annotation has ``category_id, iscrowd,
        segmentation, bbox_mode`` and, if given, ``id`` and ``bbox``. Annotations that have only a box are left out,
        and the log says how many.
    """
    sink = FirstFault()
    content = load_json(json_file, sink)
    images = read_images(content, json_file, image_root, sink)
    records = _records(images)
    for record in records.values():
        record["annotations"] = []
    for annotation in read_instances(content, json_file, images, thing_ids, sink):
        kept = {
            "iscrowd": int(annotation.iscrowd),
            "segmentation": annotation.segmentation,
            "category_id": thing_ids[annotation.category_id],
            "bbox_mode": BoxMode.XYWH_ABS,
        }
        if annotation.id is not None:
            kept["id"] = annotation.id
        if annotation.bbox is not None:
            kept["bbox"] = annotation.bbox
        records[annotation.image_id]["annotations"].append(kept)
    sink.log(json_file)
    return list(records.values())


def read_sem_seg(image_root: str, sem_seg_root: str) -> list[Record]:
    """Read semantic label files: one per image, named like it except for the suffix; pixels are contiguous class ids.

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


def _records(images: Images) -> dict[Id, Record]:
    return {
        image.id: {"file_name": image.path, "image_id": image.id, "height": image.size[0], "width": image.size[1]}
        for image in images.values()
        if image is not None
    }


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
