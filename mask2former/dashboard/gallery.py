"""Keep the best and the worst images of an evaluation, at a small size."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mask2former.visualization import Region

LONGEST_SIDE = 420  # pixels, of an image that is kept


class Packed:
    """Regions stored with eight pixels of a mask in a byte, because images of cells hold hundreds of objects."""

    def __init__(self, regions: Sequence[Region]) -> None:
        none = np.zeros(0, bool)
        self._plain = [dataclasses.replace(region, mask=none) for region in regions]
        self._shapes = [region.mask.shape for region in regions]
        self._bits = [np.packbits(region.mask) for region in regions]

    @property
    def nbytes(self) -> int:
        """Memory of the masks, in bytes."""
        return sum(bits.nbytes for bits in self._bits)

    def regions(self) -> list[Region]:
        """Unpack the regions."""
        return [
            dataclasses.replace(plain, mask=np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape))
            for plain, shape, bits in zip(self._plain, self._shapes, self._bits, strict=True)
        ]


@dataclass(frozen=True)
class Example:
    """One image of the gallery.

    Attributes:
        file_name: path of the image.
        quality: quality of the prediction, in [0, 1].
        size: (H, W) of the masks, at most ``LONGEST_SIDE``.
        truth, found: regions to draw.
    """

    file_name: str
    quality: float
    size: tuple[int, int]
    truth: Packed
    found: Packed


@dataclass(frozen=True, order=True)
class _Ranked:
    rank: float  # the largest are kept
    order: int
    example: Example


class Gallery:
    """The ``number`` images of the highest and of the lowest quality.

    Args:
        number: number of images of each kind.
    """

    def __init__(self, number: int = 6) -> None:
        self.number = number
        self._best: list[_Ranked] = []
        self._worst: list[_Ranked] = []
        self._count = 0

    def offer(self, quality: float, make: Callable[[], Example]) -> None:
        """Call ``make`` and keep its example if the image is among the best or worst so far."""
        wanted = [
            (heap, rank)
            for heap, rank in ((self._best, quality), (self._worst, -quality))
            if len(heap) < self.number or (heap and rank > heap[0].rank)
        ]
        if not wanted:
            return
        self._count -= 1
        example, order = make(), self._count  # counts down, so that the first of equals is kept
        for heap, rank in wanted:
            add = heapq.heappush if len(heap) < self.number else heapq.heappushpop
            add(heap, _Ranked(rank, order, example))

    def take(self, others: Iterable[Gallery]) -> None:
        """Offer the images of other galleries, such as those of other processes."""
        for other in others:
            for example in {id(x.example): x.example for x in (*other._best, *other._worst)}.values():
                self.offer(example.quality, lambda chosen=example: chosen)  # type: ignore[misc]

    def best(self) -> list[Example]:
        """Return the best images, highest quality first."""
        return [x.example for x in sorted(self._best, reverse=True)]

    def worst(self) -> list[Example]:
        """Return the worst images that are not among the best, lowest quality first."""
        best = {x.example.file_name for x in self._best}
        return [x.example for x in sorted(self._worst, reverse=True) if x.example.file_name not in best]


def shrunk(size: tuple[int, int], longest: int = LONGEST_SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Return evenly spread rows and columns of an image of (H, W), so that no side is longer than ``longest``."""
    factor = min(1.0, longest / max(size))
    rows, columns = (
        np.floor((np.arange(max(1, round(n * factor))) + 0.5) * n / max(1, round(n * factor))) for n in size
    )
    return rows.astype(np.int64), columns.astype(np.int64)
