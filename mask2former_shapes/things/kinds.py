"""What is known of each kind of thing: how it looks, how big it is, where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mask2former_shapes.stage import GRASS, SAND, SKY, WATER
from mask2former_shapes.things import afloat, ashore
from mask2former_shapes.things.shapes import Part


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    Attributes:
        draw: (random numbers, whether it stands on sand) -> parts.
        size: of one near the viewer, in 1/128 of the image's shorter side.
        homes: stuff it stands on, or is surrounded by.
        nearest, farthest: depths it occurs at, 1 the bottom of the image and 0 the horizon; in the sky shares of
            the sky's height.
        needs: how far to the sides, and up and down, its home has to reach, as shares of its size.
        company: chance of another one of its kind close by.
        chance: how often it is chosen where it could be, relative to the others.
        casts_shadow: on the ground.
    """

    draw: Callable[[np.random.Generator, bool], list[Part]]
    size: float
    homes: tuple[int, ...]
    farthest: float
    nearest: float
    needs: tuple[float, float] = (0.28, 0.0)
    company: float = 0.1
    chance: float = 1.0
    casts_shadow: bool = True

    @property
    def flies(self) -> bool:
        return self.homes == (SKY,)


KINDS = {
    "tree": Kind(ashore.tree, 70, (GRASS, SAND), 0.04, 0.9, company=0.2),
    "house": Kind(ashore.house, 50, (GRASS, SAND), 0.04, 0.8, company=0.1),
    "boat": Kind(afloat.boat, 62, (WATER,), 0.05, 0.9, (0.5, 0.12), company=0.1, chance=1.6, casts_shadow=False),
    "ball": Kind(ashore.ball, 25, (GRASS, SAND), 0.2, 0.97),
    "fish": Kind(afloat.fish, 44, (WATER,), 0.2, 0.95, (0.5, 0.12), company=0.2, chance=1.5, casts_shadow=False),
    "bird": Kind(afloat.bird, 40, (SKY,), 0.1, 0.85, (0.5, 0.35), company=0.2, casts_shadow=False),
    "balloon": Kind(afloat.balloon, 44, (SKY,), 0.15, 0.75, (0.5, 0.35), company=0.1, casts_shadow=False),
    "mushroom": Kind(ashore.mushroom, 34, (GRASS,), 0.2, 0.97, company=0.2),
}
