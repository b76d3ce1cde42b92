"""Prepare compared images for drawing: ground truth and prediction, shrunk to the gallery's size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.catalog import Metadata

from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.gallery import Example, Packed, shrunk
from mask2former.dashboard.marks import Box
from mask2former.evaluation.handover import ComparedImage, InstanceImage, PanopticImage
from mask2former.visualization import Region, make_region
from mask2former.visualization.painting import mask_box


class Drawer:
    """Make examples for the gallery.

    Args:
        classes: classes of the report.
        metadata: metadata of the data set, for colours.
    """

    def __init__(self, classes: ClassList, metadata: Metadata) -> None:
        self._classes = classes
        self._metadata = metadata

    def __call__(self, image: ComparedImage, quality: float) -> Example:
        rows, columns = shrunk(image.size)
        if isinstance(image, PanopticImage):
            truth, found = (self._segments(_pick(ids, rows, columns), s) for ids, s in (image.truth, image.found))
        elif isinstance(image, InstanceImage):
            truth, found = (self._instances(objects, rows, columns) for objects in (image.truth, image.found))
        else:
            ignored = _pick(image.truth, rows, columns) == image.ignore_label
            truth, found = (self._labels(_pick(x, rows, columns), ~ignored) for x in (image.truth, image.found))
        return Example(image.file_name, quality, (len(rows), len(columns)), Packed(truth), Packed(found))

    def boxes(
        self, image: PanopticImage | InstanceImage, example: Example
    ) -> tuple[list[Box | None], list[Box | None]]:
        """Return the boxes of the true and of the found segments, in the order of the image's overlaps."""
        truth, found = ([_box(region.mask) for region in packed.regions()] for packed in (example.truth, example.found))
        if isinstance(image, InstanceImage):
            return truth, found
        (true_ids, true_segments), (_, found_segments) = image.truth, image.found
        by_id = {one["id"]: box for one, box in zip(true_segments, truth, strict=True) if not one.get("iscrowd", 0)}
        if len(by_id) != len(image.overlaps.true_classes):  # segments without a pixel are not compared
            there = set(np.unique(true_ids).tolist())
            by_id = {id_: box for id_, box in by_id.items() if id_ in there}
        of_found = sorted(zip((one["id"] for one in found_segments), found, strict=True), key=lambda pair: pair[0])
        return [by_id[id_] for id_ in sorted(by_id)], [box for _, box in of_found]

    def _segments(self, ids: np.ndarray, segments: Iterable[Mapping[str, Any]]) -> list[Region]:
        places = self._places(segments)
        return [self._region(ids == one["id"], place) for one, place in zip(segments, places, strict=True)]

    def _instances(self, objects: Sequence[Mapping[str, Any]], rows: np.ndarray, columns: np.ndarray) -> list[Region]:
        masks = (_pick(mask_util.decode(one["segmentation"]), rows, columns).astype(bool) for one in objects)
        found = zip(masks, self._places(objects), objects, strict=True)
        return [self._region(mask, place, one.get("score")) for mask, place, one in found]

    def _labels(self, labels: np.ndarray, asked: np.ndarray) -> list[Region]:
        numbers = np.unique(labels[asked]).astype(np.int64)
        found = zip(numbers, self._classes.of_labels(numbers).tolist(), strict=True)
        return [self._region((labels == number) & asked, place, isthing=False) for number, place in found]

    def _places(self, objects: Iterable[Mapping[str, Any]]) -> list[int]:
        return self._classes.of_files(np.array([one["category_id"] for one in objects], np.int64)).tolist()

    def _region(self, mask: np.ndarray, place: int, score: float | None = None, isthing: bool | None = None) -> Region:
        isthing = not self._classes.things or place in self._classes.things if isthing is None else isthing
        region = make_region(mask, place, isthing, self._metadata, score)
        return dataclasses.replace(region, name=self._classes.names[place])


def _box(mask: np.ndarray) -> Box | None:
    """Return a mask's box in thousandths of the image's sides; None if it is empty."""
    if (box := mask_box(mask)) is None:
        return None
    height, width = mask.shape
    left, top, right, bottom = (round(1000 * at / side) for at, side in zip(box, (width, height) * 2, strict=True))
    return left, top, right, bottom


def _pick(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return these rows and columns of [H, W]; the array itself if all are wanted."""
    if array.shape == (len(rows), len(columns)):
        return array
    if array.flags.f_contiguous:  # as COCO's decoded masks are; whole lines of memory first: thrice as fast as np.ix_
        return np.ascontiguousarray(array.T[columns][:, rows].T)
    return array[rows][:, columns]
