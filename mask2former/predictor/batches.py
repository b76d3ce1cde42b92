"""Batches of images of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from mask2former.predictor.load_image import LoadedImage

Entry = tuple[LoadedImage, dict[str, Any]]
"""An image, and what the model reads of it."""


Item = TypeVar("Item")


class UntilError(Generic[Item]):
    """Items up to the first that cannot be read, so that those before it, which wait for others, have their results.

    Args:
        items: may raise an error.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Item]:
        try:
            yield from self._items
        except Exception as error:
            self._error = error

    def check(self) -> None:
        """Raise the error that ended the items, if one did."""
        error, self._error = self._error, None  # not kept, because its traceback keeps what was read
        if error is not None:
            raise error


def of_one_size(entries: Iterable[Entry], batch_size: int) -> Iterator[list[Entry]]:
    """Yield batches of at most ``batch_size`` entries in a row, each of images [3, H, W] of one size.

    An error of the entries is raised after the batch of those before it.
    """
    batch: list[Entry] = []
    read = UntilError(entries)
    for entry in read:
        if batch and entry[1]["image"].shape != batch[0][1]["image"].shape:
            yield batch
            batch = []
        batch.append(entry)
        if len(batch) == batch_size:  # at once: the next frame of a camera may take its time
            yield batch
            batch = []
    if batch:
        yield batch
    read.check()
