"""Batches of images of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mask2former.predictor.load_image import LoadedImage

Entry = tuple[LoadedImage, dict[str, Any]]
"""An image, and what the model reads of it."""


def of_one_size(entries: Iterable[Entry], batch_size: int) -> Iterator[list[Entry]]:
    """Yield batches of at most ``batch_size`` entries in a row, each of images [3, H, W] of one size."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and entry[1]["image"].shape != batch[0][1]["image"].shape:
            yield batch
            batch = []
        batch.append(entry)
        if len(batch) == batch_size:  # at once: the next frame of a camera may take its time
            yield batch
            batch = []
    if batch:
        yield batch
