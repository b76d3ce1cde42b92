"""Joining of panoptic results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mask2former.tiling.grid import Tile
from mask2former.tiling.merge import UnionFind, same

Panoptic = tuple[Tensor, list[dict[str, Any]]]
BAND = 256  # rows at a time, because labels converted to indices (int64) take twice their memory


class PanopticCanvas:
    """A label map onto which tiles are drawn, row by row from the left.

    Args:
        size: (H, W).
    """

    name = "panoptic_seg"

    def __init__(self, size: tuple[int, int]) -> None:
        self.labels = torch.zeros(size, dtype=torch.int32)  # number of a segment + 1; 0: none
        self.segments: list[dict[str, Any]] = []  # by number
        self.groups = UnionFind()
        self.stuff: dict[int, int] = {}
        self.waiting: list[tuple[Tile, Tensor]] = []  # tiles with neighbours still to come, and their labels

    def add(self, tile: Tile, result: Panoptic) -> None:
        local, segments = result
        lookup = torch.zeros(max([0, *(segment["id"] for segment in segments)]) + 1, dtype=torch.int32)
        for segment in segments:
            lookup[segment["id"]] = self._number(segment) + 1
        labels = lookup[local.cpu().long()]
        row, column = tile.place
        self.waiting = [one for one in self.waiting if one[0].place >= (row - 1, column)]
        for neighbour, known in self.waiting:
            if neighbour.place in ((row, column - 1), (row - 1, column)):
                shared = tile.shared_with(neighbour)
                self._join(known[neighbour.own(*shared)], labels[tile.own(*shared)])
        self.waiting.append((tile, labels))
        self.labels[tile.core] = tile.core_of(labels)

    def _number(self, segment: dict[str, Any]) -> int:
        category = segment["category_id"]
        if not segment["isthing"] and category in self.stuff:
            return self.stuff[category]
        self.segments.append({key: segment[key] for key in ("isthing", "category_id")})
        number = self.groups.new()
        if not segment["isthing"]:
            self.stuff[category] = number
        return number

    def _join(self, known: Tensor, labels: Tensor) -> None:
        """Join things that match in two label maps [h, w] of the same pixels."""
        first, one = known.flatten().unique(return_inverse=True)
        second, two = labels.flatten().unique(return_inverse=True)
        common = torch.bincount(one * len(second) + two, minlength=len(first) * len(second))
        common = common.view(len(first), len(second))
        for i, j in same(common, common.sum(1), common.sum(0)):
            mine, yours = int(first[i]) - 1, int(second[j]) - 1
            if mine >= 0 and yours >= 0 and self.segments[mine] == self.segments[yours]:
                self.groups.join(mine, yours)

    def result(self) -> Panoptic:
        """Return segment ids, int32 [H, W], 0 for none, and the segments, in the order in which they first came."""
        roots = [self.groups.find(number) for number in range(len(self.segments))]
        present = torch.zeros(len(roots) + 1, dtype=torch.bool)
        for rows in self.labels.split(BAND):
            present |= torch.bincount(rows.flatten(), minlength=len(present)) > 0
        seen = sorted({roots[number] for number in range(len(roots)) if present[number + 1]})
        ids = {root: index + 1 for index, root in enumerate(seen)}
        lookup = torch.tensor([0, *(ids.get(root, 0) for root in roots)], dtype=torch.int32)
        for rows in self.labels.split(BAND):  # in place: the map is the largest thing here
            rows.copy_(lookup[rows.long()])
        return self.labels, [{"id": ids[root], **self.segments[root]} for root in seen]
