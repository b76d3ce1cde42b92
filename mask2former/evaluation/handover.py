"""An evaluator's comparison of one image, for those who need more than scores, such as the report.

An evaluator of this package calls its ``on_image`` with one of these for each image that has ground truth, as soon as
it has compared the image. Category ids are those of the ground truth's file; semantic classes are contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mask2former.evaluation.overlaps import Matches, Overlaps, mask_overlaps, match

CONFIDENT = 0.5  # least score of the instances in ``found``: AP counts the others too, but people do not look at them


@dataclass(frozen=True)
class PanopticImage:
    """A panoptic prediction and its ground truth.

    Attributes:
        file_name: of the image.
        overlaps, matches: those from which panoptic quality is computed.
        truth, found: segment ids [H, W], and the segments with ``id`` and ``category_id``.
    """

    file_name: str
    overlaps: Overlaps
    matches: Matches
    truth: tuple[np.ndarray, Sequence[Mapping[str, Any]]]
    found: tuple[np.ndarray, Sequence[Mapping[str, Any]]]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.truth[0].shape
        return height, width


@dataclass(frozen=True)
class InstanceImage:
    """Predicted instances and their ground truth.

    Average precision matches them at ten IoUs, at the end and by class. Here they are matched once, at one IoU, and
    only if the matches are read.

    Attributes:
        file_name: of the image.
        size: (H, W) in pixels.
        annotations: the ground truth, including crowds; ``segmentation`` as compressed run lengths (RLE).
        results: the predictions as they are scored, ``segmentation`` as RLE.
    """

    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]
    results: Sequence[Mapping[str, Any]]

    @cached_property
    def truth(self) -> list[Mapping[str, Any]]:
        """The annotations that are not crowds."""
        return [one for one in self.annotations if not one.get("iscrowd", 0)]

    @cached_property
    def found(self) -> list[Mapping[str, Any]]:
        """The results with a score of at least ``CONFIDENT``, best first."""
        return sorted((one for one in self.results if one["score"] >= CONFIDENT), key=lambda one: -one["score"])

    @cached_property
    def overlaps(self) -> Overlaps:
        crowds = [one for one in self.annotations if one.get("iscrowd", 0)]
        columns = (_column(ones, key) for ones in (self.truth, self.found, crowds) for key in _MASK_AND_CLASS)
        return mask_overlaps(*columns)

    @cached_property
    def matches(self) -> Matches:
        return match(self.overlaps)


_MASK_AND_CLASS = ("segmentation", "category_id")


def _column(ones: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return [one[key] for one in ones]


@dataclass(frozen=True)
class SemanticImage:
    """A predicted map of classes and its ground truth.

    Attributes:
        file_name: of the image.
        counts: [K, K] int64 pixels, by predicted and true class.
        truth, found: [H, W] integers; ``truth`` may have ignored pixels.
        ignore_label: label of ignored pixels.
    """

    file_name: str
    counts: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    ignore_label: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.truth.shape
        return height, width


ComparedImage = PanopticImage | InstanceImage | SemanticImage
OnImage = Callable[[ComparedImage], None]
