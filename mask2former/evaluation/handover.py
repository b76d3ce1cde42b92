"""What an evaluator found in one image, for whoever wants to know more than its scores, such as the report.

An evaluator of this package calls its ``on_image`` with one of these for each image that has ground truth, as soon as
it has compared it. Categories are numbered as in the ground truth's file; semantic classes are contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mask2former.evaluation.overlaps import Matches, Overlaps, mask_overlaps, match

CONFIDENT = 0.5  # least score of the instances that are looked at: people look at no others, though AP does


@dataclass(frozen=True)
class PanopticImage:
    """A panoptic prediction.

    Attributes:
        file_name: of the image.
        overlaps, matches: those that panoptic quality is made of.
        truth, found: ids [H, W], and the segments with ``id`` and ``category_id``.
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
    """Predicted instances. Average precision matches them at ten IoUs, at the end and by class; here they are matched
    once, whatever their class, and only when somebody asks.

    Attributes:
        file_name: of the image.
        size: (H, W) in pixels.
        annotations: the ground truth's, crowds too; ``segmentation`` as compressed run lengths (RLE).
        results: as they are scored, ``segmentation`` as RLE.
    """

    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]
    results: Sequence[Mapping[str, Any]]

    @cached_property
    def truth(self) -> list[Mapping[str, Any]]:
        """The annotations that are no crowds."""
        return [one for one in self.annotations if not one.get("iscrowd", 0)]

    @cached_property
    def found(self) -> list[Mapping[str, Any]]:
        """The results of a score of at least ``CONFIDENT``, the best first."""
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
    """A map of classes.

    Attributes:
        file_name: of the image.
        counts: [K, K] int64 pixels, by predicted and true class.
        truth, found: [H, W] integers; the truth with ignored pixels.
        ignore_label: the value of those.
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
