"""The arrays of an image's results, which its exports read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from detectron2.data.catalog import Metadata


@dataclass(frozen=True)
class InstanceArrays:
    """N objects, best first.

    Attributes:
        masks: [N, H, W] bool.
        boxes: [N, 4] float32, (x0, y0, x1, y1) in pixels, right and bottom exclusive.
        classes: [N] int64, numbers of their classes.
        scores: [N] float32, 0 to 1.
        tracks: [N] int64, numbers of their tracks in the film, from 1; None: they are not tracked.
    """

    masks: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    tracks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)


class ResultArrays(Protocol):
    """The part of :class:`mask2former.predictor.Result` that exports read."""

    image: np.ndarray
    metadata: Metadata
    tasks: tuple[str, ...]
    file_name: str | None

    @property
    def panoptic(self) -> np.ndarray: ...

    @property
    def segments(self) -> list[dict[str, Any]]: ...

    @property
    def instances(self) -> InstanceArrays: ...

    @property
    def semantic(self) -> np.ndarray: ...

    def class_name(self, number: int) -> str: ...
