"""Which segments of different tiles are the same."""

from __future__ import annotations

from torch import Tensor

LEAST_IOU = 0.5


class UnionFind:
    """Numbers from 0 on that are put together into groups."""

    def __init__(self) -> None:
        self.parents: list[int] = []

    def new(self) -> int:
        self.parents.append(len(self.parents))
        return self.parents[-1]

    def find(self, number: int) -> int:
        """The smallest number of its group."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def join(self, one: int, two: int) -> None:
        first, second = sorted((self.find(one), self.find(two)))
        self.parents[second] = first


def same(common: Tensor, one: Tensor, two: Tensor) -> list[tuple[int, int]]:
    """Pairs with an IoU above LEAST_IOU.

    Args:
        common: [n, m] pixels that both have.
        one, two: [n] and [m] pixels of each.
    """
    union = one[:, None] + two - common
    return [(i, j) for i, j in (common > LEAST_IOU * union).nonzero().tolist()]
