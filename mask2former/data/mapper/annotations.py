"""Read a data set dict's annotation into objects, (class, pixels) pairs, for each of the three tasks.

All checks of annotations during training are here. Errors name the image, what was found and what to do.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.utils.logger import log_first_n

from mask2former.data.coco.masks import Runs, has_mask, read_segmentation
from mask2former.data.coco.rules import crowd_flag, segment_id
from mask2former.data.images.limits import max_pixels
from mask2former.data.images.read import read_labels, read_panoptic_ids
from mask2former.data.mapper.label_maps import layers_from_ids, layers_from_runs
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.data.mapper.polygons import Polygon

Record = dict[str, Any]
T = TypeVar("T")
NO_SEGMENT_IN_IT = (
    "none of the image's {} segments is in it. Segment ids are R + 256 G + 65536 B. Is this the panoptic png of this "
    "image?"
)


def panoptic_objects(
    record: Record, size: tuple[int, int], num_classes: int, with_crowds: bool = False
) -> MaskAnnotations:
    """Read each panoptic segment, thing or stuff, as an object; leave out crowds and pixels of no segment.

    Args:
        record: dict with ``segments_info`` (contiguous category ids) and ``pan_seg_file_name`` (an RGB png of ids),
            which an image without segments may lack.
        size: (H, W) of the image.
        num_classes: K; classes must be in [0, K).
        with_crowds: keep crowds as hidden objects, so that the class map has them.
    """
    image = record["file_name"]
    classes: list[int] = []
    wanted: list[int] = []
    crowds: list[int] = []
    for segment in _annotation(record, "segments_info", "panoptic"):
        where = f"{image}, segment {segment['id']}"
        _require_class(segment["category_id"], num_classes, where)
        is_crowd = _judged(crowd_flag, segment.get("iscrowd"), where)
        if with_crowds or not is_crowd:
            crowds += [len(classes)] * bool(is_crowd)
            classes.append(segment["category_id"])
            wanted.append(_judged(segment_id, segment["id"], image))
    if not wanted:
        return MaskAnnotations(size, np.zeros(0, np.int64))

    png = _annotation(record, "pan_seg_file_name", "panoptic")
    ids = read_panoptic_ids(png, _most(size))
    _require_size(ids, size, f"{image}, {png}")
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"{image}: segment ids have to be unique; found {wanted}.")
    layers = layers_from_ids(ids, wanted)
    if not any(layer.labels.any() for layer in layers):
        raise ValueError(f"{png}: {NO_SEGMENT_IN_IT.format(len(wanted))}")
    return MaskAnnotations(size, np.array(classes, np.int64), [*layers], hidden=frozenset(crowds))


def instance_objects(record: Record, size: tuple[int, int], num_classes: int) -> MaskAnnotations:
    """Read each annotation that is not a crowd as an object, given by polygons, run lengths (RLE) or a bit mask [H, W].

    Annotations that have only a box are left out, as the data sets' readers do; the log says so once.

    Args:
        record: dict with ``annotations`` (contiguous category ids), which may be empty.
        size: (H, W) of the image.
        num_classes: K; classes must be in [0, K).
    """
    classes: list[int] = []
    polygons: list[Polygon] = []
    runs: dict[int, Runs] = {}
    for position, annotation in enumerate(_annotation(record, "annotations", "instance")):
        where = f"{record['file_name']}, annotation {annotation.get('id', f'number {position}')}"
        _require_class(annotation["category_id"], num_classes, where)
        segmentation = annotation.get("segmentation")
        if _judged(crowd_flag, annotation.get("iscrowd"), where):
            continue
        if not has_mask(segmentation):
            log_first_n(logging.WARNING, f"{where}: it has a box but no mask and is left out, as are others like it.")
            continue
        member = len(classes)
        classes.append(annotation["category_id"])
        shape = _judged(functools.partial(read_segmentation, size=size), segmentation, where)
        if isinstance(shape, list):
            polygons += [Polygon(member, points) for points in shape]
        else:
            runs[member] = shape
    return MaskAnnotations(size, np.array(classes, np.int64), [*layers_from_runs(size[0], runs)], polygons)


def semantic_objects(record: Record, size: tuple[int, int], num_classes: int, ignore_label: int) -> MaskAnnotations:
    """Read each class that is present as one object.

    Args:
        record: dict with ``sem_seg_file_name``: a one-channel image of class numbers.
        size: (H, W) of the image.
        num_classes: K; pixels must be in [0, K) or ``ignore_label``.
        ignore_label: label of pixels without a class.
    """
    png = _annotation(record, "sem_seg_file_name", "semantic")
    labels = read_labels(png, _most(size))
    _require_size(labels, size, f"{record['file_name']}, {png}")
    present = _labels_of(labels, num_classes, ignore_label)
    for value in present:
        if not 0 <= value < num_classes:
            raise ValueError(
                f"{png}: found the label {value}, but there are {num_classes} classes (0 to {num_classes - 1}) and "
                f"the ignored label is {ignore_label}. Set MODEL.SEM_SEG_HEAD.NUM_CLASSES and IGNORE_VALUE to what "
                "the data set has, or correct the file."
            )
    return MaskAnnotations(size, np.array(present, np.int64), [*layers_from_ids(labels, present)])


def _labels_of(labels: np.ndarray, num_classes: int, ignore_label: int) -> list[int]:
    """Return the labels that may occur; of valid uint8 labels all classes, since listing those present is slower."""
    if labels.dtype == np.uint8:
        known = np.zeros(256, np.uint8)
        known[:num_classes] = 1
        classes = [value for value in range(min(num_classes, 256)) if value != ignore_label]
        if 0 <= ignore_label < 256:
            known[ignore_label] = 1
        if cv2.LUT(labels, known).all():
            return classes
    return [value for value in np.unique(labels).tolist() if value != ignore_label or value < 0]


def _annotation(record: Record, key: str, task: str) -> Any:
    if key not in record:
        raise ValueError(
            f"{record.get('file_name')}: the data set gives no {key!r}, which {task} training needs; found "
            f"{sorted(record)}. Choose INPUT.DATASET_MAPPER_NAME and DATASETS.TRAIN for the same task."
        )
    return record[key]


def _most(size: tuple[int, int]) -> int:
    """Return how many pixels an annotation may have: as many as its image, which was let in."""
    return max(size[0] * size[1], max_pixels())


def _require_class(category: Any, num_classes: int, where: str) -> None:
    if not 0 <= category < num_classes:
        raise ValueError(
            f"{where}: found class {category}, but there are {num_classes} (0 to {num_classes - 1}). "
            "Set MODEL.SEM_SEG_HEAD.NUM_CLASSES to what the data set has."
        )


def _require_size(labels: np.ndarray, size: tuple[int, int], where: str) -> None:
    if labels.shape != size:
        raise SizeMismatchError(
            f"{where}: the annotation's size (height, width) is {labels.shape}, but the image's is {size}. "
            "They have to be the same; make the annotation again."
        )


def _judged(rule: Callable[[Any], T], value: Any, where: str) -> T:
    """Apply a rule to a value; its error says where."""
    try:
        return rule(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}. Correct the annotation file.") from error
