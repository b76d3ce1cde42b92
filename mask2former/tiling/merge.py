"""Matching and grouping of segments that different tiles see."""

from __future__ import annotations

from torch import Tensor

LEAST_IOU = 0.5


class UnionFind:
    """Numbers from 0 on, joined into groups."""

    def __init__(self) -> None:
        self.parents: list[int] = []

    def new(self) -> int:
        self.parents.append(len(self.parents))
        return self.parents[-1]

    def find(self, number: int) -> int:
        """Return the smallest number of the group."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]  # shortens the path for the next search
            number = self.parents[number]
        return number

    def join(self, one: int, two: int) -> None:
        first, second = sorted((self.find(one), self.find(two)))
        self.parents[second] = first


def same(common: Tensor, one: Tensor, two: Tensor) -> list[tuple[int, int]]:
    """Return the pairs (i, j) of segments with an IoU above LEAST_IOU.

    Args:
        common: [n, m], numbers of pixels that both have.
        one, two: [n] and [m], numbers of pixels of each.
    """
    union = one[:, None] + two - common
    return [(i, j) for i, j in (common > LEAST_IOU * union).nonzero().tolist()]
