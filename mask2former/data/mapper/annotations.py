"""From a data set dict's annotation to objects: (class, pixels) pairs, for each of the three tasks.

Every check of annotations is here. Errors name the image, what was found and what to do.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import SizeMismatchError

from mask2former.data.mapper.image_io import read_labels, read_panoptic_ids
from mask2former.data.mapper.label_maps import Runs, layers_from_ids, layers_from_runs
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.data.mapper.polygons import Polygon
from mask2former.data.rle.decode import object_runs, runs_of_mask

Record = dict[str, Any]


def panoptic_objects(record: Record, size: tuple[int, int], num_classes: int) -> MaskAnnotations:
    """Each segment, thing or stuff, is an object. Crowds are left out, pixels of no segment too.

    Args:
        record: with ``segments_info`` (contiguous category ids) and ``pan_seg_file_name`` (an RGB png of ids),
            which an image without segments may lack.
        size: (H, W) of the image.
        num_classes: K; classes have to be in [0, K).
    """
    segments = _annotation(record, "segments_info", "panoptic")
    image = record["file_name"]
    for segment in segments:
        _require_class(segment["category_id"], num_classes, f"{image}, segment {segment['id']}")
    segments = [segment for segment in segments if not segment.get("iscrowd", 0)]
    classes = np.array([segment["category_id"] for segment in segments], np.int64)
    if not segments:
        return MaskAnnotations(size, classes)

    png = _annotation(record, "pan_seg_file_name", "panoptic")
    ids = read_panoptic_ids(png)
    _require_size(ids, size, f"{image}, {png}")
    wanted = [segment["id"] for segment in segments]
    if len(set(wanted)) != len(wanted) or min(wanted) < 0 or max(wanted) >= 256**3:
        raise ValueError(f"{image}: segment ids have to be different and below 2^24; found {wanted}.")
    layers = layers_from_ids(ids, wanted)
    if not any(layer.labels.any() for layer in layers):
        raise ValueError(
            f"{png}: none of the image's {len(wanted)} segments is in it. Segment ids are R + 256 G + 65536 B; "
            "is this the panoptic png of this image?"
        )
    return MaskAnnotations(size, classes, [*layers])


def instance_objects(record: Record, size: tuple[int, int], num_classes: int) -> MaskAnnotations:
    """Each annotation that is no crowd is an object, given by polygons, run lengths (RLE) or a bit mask [H, W].

    Args:
        record: with ``annotations`` (contiguous category ids), which may be empty.
        size: (H, W) of the image.
        num_classes: K; classes have to be in [0, K).
    """
    classes: list[int] = []
    polygons: list[Polygon] = []
    runs: dict[int, Runs] = {}
    for position, annotation in enumerate(_annotation(record, "annotations", "instance")):
        where = f"{record['file_name']}, annotation {annotation.get('id', f'number {position}')}"
        _require_class(annotation["category_id"], num_classes, where)
        if annotation.get("iscrowd", 0):
            continue
        member = len(classes)
        classes.append(annotation["category_id"])
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and segmentation:
            polygons += [Polygon(member, points) for points in _outlines(segmentation, where)]
        else:
            runs[member] = _runs(segmentation, size, where)
    return MaskAnnotations(size, np.array(classes, np.int64), [*layers_from_runs(size[0], runs)], polygons)


def semantic_objects(record: Record, size: tuple[int, int], num_classes: int, ignore_label: int) -> MaskAnnotations:
    """Each class that is present is one object.

    Args:
        record: with ``sem_seg_file_name``: a one-channel image of class numbers.
        size: (H, W) of the image.
        num_classes: K; pixels have to be in [0, K) or ``ignore_label``.
        ignore_label: value of pixels that belong to no class.
    """
    png = _annotation(record, "sem_seg_file_name", "semantic")
    labels = read_labels(png)
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
    """Those that may occur: all classes where labels are bytes and in order, which is told faster than which do."""
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


def _require_class(category: Any, num_classes: int, where: str) -> None:
    if not 0 <= category < num_classes:
        raise ValueError(
            f"{where}: found class {category}, but there are {num_classes} (0 to {num_classes - 1}). "
            "Set MODEL.SEM_SEG_HEAD.NUM_CLASSES to what the data set has."
        )


def _require_size(labels: np.ndarray, size: tuple[int, int], where: str) -> None:
    if labels.shape != size:
        raise SizeMismatchError(
            f"{where}: the annotation's size (height, width) is {labels.shape}, the image's {size}. "
            "They have to be the same; make the annotation anew."
        )


def _outlines(segmentation: list[Any], where: str) -> list[np.ndarray]:
    """[P, 2] points of each polygon; those of fewer than three points cover no pixel and are left out."""
    outlines = []
    for coordinates in segmentation:
        points = np.asarray(coordinates, np.float64)
        if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError(
                f"{where}: a polygon has to be a flat list x0, y0, x1, y1, ... of numbers; found {coordinates!r:.80}."
            )
        if len(points) >= 6:
            outlines.append(points.reshape(-1, 2))
    return outlines


def _runs(segmentation: Any, size: tuple[int, int], where: str) -> Runs:
    if isinstance(segmentation, dict):
        try:
            return object_runs(segmentation, size)
        except ValueError as error:
            raise ValueError(f"{where}: {error}. Correct the annotation file.") from error
    if isinstance(segmentation, np.ndarray):
        _require_size(segmentation, size, where)
        return runs_of_mask(segmentation)
    raise ValueError(
        f"{where}: found no mask (segmentation is {segmentation!r:.80}). An instance needs polygons, run lengths or a "
        "bit mask; take annotations that are boxes alone out of the file."
    )
