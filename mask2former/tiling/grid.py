"""The grid of tiles that covers an image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

Span = tuple[int, int]  # [first, last) in pixels


@dataclass(frozen=True)
class Tile:
    """A tile, in pixels of the result unless stated otherwise.

    Attributes:
        place: (row, column) in the grid.
        source: rows and columns in the input image.
        rows, columns: the part that it covers.
        core_rows, core_columns: the part that it decides; the cores of all tiles cover the image once.
    """

    place: tuple[int, int]
    source: tuple[slice, slice]
    rows: Span
    columns: Span
    core_rows: Span
    core_columns: Span

    @property
    def size(self) -> tuple[int, int]:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def core(self) -> tuple[slice, slice]:
        """Rows and columns of the core in the result."""
        return slice(*self.core_rows), slice(*self.core_columns)

    def own(self, rows: Span, columns: Span) -> tuple[slice, slice]:
        """Convert rows and columns of the result to those of the tile, counted from its corner."""
        top, left = self.rows[0], self.columns[0]
        return slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left)

    def core_of(self, x: Tensor) -> Tensor:
        """Crop [..., H, W] over the tile to its core."""
        place = (..., *self.own(self.core_rows, self.core_columns))
        return x[place]

    def shared_with(self, other: Tile) -> tuple[Span, Span]:
        """Return the rows and columns that both tiles cover."""
        rows, columns = (
            (max(one[0], two[0]), min(one[1], two[1]))
            for one, two in ((self.rows, other.rows), (self.columns, other.columns))
        )
        return rows, columns


@dataclass(frozen=True)
class Grid:
    """Tiles of one image, row by row."""

    tiles: dict[tuple[int, int], Tile]

    @classmethod
    def over(cls, size: tuple[int, int], target: tuple[int, int], tile: int, overlap: int) -> Grid:
        """Cover an image of ``size`` (H, W), whose result has the size ``target``, with tiles.

        Raises:
            ValueError: the result is so small that a tile has no pixel of it.
        """
        rows, columns = (_axis(*lengths, tile, overlap) for lengths in zip(size, target, strict=True))
        if any(covered[0] == covered[1] for _, covered, _ in (*rows, *columns)):
            raise ValueError(
                f"a result of {target[0]} x {target[1]} pixels is too small for an image of {size[0]} x {size[1]} in "
                f"tiles of {tile}: some tiles would have no pixel of it. Use larger tiles, or shrink the image first."
            )
        return cls(
            {
                (i, j): Tile((i, j), (slice(*row[0]), slice(*column[0])), row[1], column[1], row[2], column[2])
                for i, row in enumerate(rows)
                for j, column in enumerate(columns)
            }
        )

    def __len__(self) -> int:
        return len(self.tiles)

    def __iter__(self) -> Iterator[Tile]:
        return iter(self.tiles.values())


def _axis(length: int, target: int, tile: int, overlap: int) -> list[tuple[Span, Span, Span]]:
    """Return, for each tile along an axis, its span in the input, its span in the result, and its core there."""
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    starts = [round(index * (length - tile) / (count - 1)) for index in range(count)] if count > 1 else [0]
    sources = [(start, min(start + tile, length)) for start in starts]
    scale = target / length
    covered = [(round(first * scale), round(last * scale)) for first, last in sources]
    seams = [(one[1] + two[0]) // 2 for one, two in itertools.pairwise(covered)]
    return list(zip(sources, covered, zip([0, *seams], [*seams, target], strict=True), strict=True))
