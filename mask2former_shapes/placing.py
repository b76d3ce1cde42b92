"""Which things a scene has, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mask2former_shapes.stage import SAND, STUFF, Stage
from mask2former_shapes.things.kinds import KINDS, Kind
from mask2former_shapes.things.sprite import Sprite, paint

FEWEST, MOST = 3, 6  # things that a scene should have; it has fewer where no more fit
LEAST_ROOM = 0.05  # share of the image that has to be a kind's home
FARTHEST_HAZE = 0.3  # things do not stand on the hills behind it
NEAREST = 0.45  # distance of two things, relative to the sum of their sizes
TRIES = 25  # places that are tried for a thing


@dataclass
class Thing:
    """A thing at its place.

    Attributes:
        name: of its kind.
        x, y: of its foot (flying, swimming: its middle) in pixels of the drawing.
        size: in pixels of the drawing.
        sprite: its pixels.
    """

    name: str
    x: float
    y: float
    size: float
    sprite: Sprite


def place_things(stage: Stage) -> list[Thing]:
    """Things at sensible places, the farthest first."""
    rng = stage.rng
    room = np.bincount(stage.cover.ravel(), minlength=len(STUFF)) / stage.cover.size
    possible = [name for name, kind in KINDS.items() if room[list(kind.homes)].sum() > LEAST_ROOM]
    chances = np.array([KINDS[name].chance for name in possible])
    wanted = int(rng.integers(FEWEST, MOST + 1))
    things: list[Thing] = []
    for _ in range(2 * wanted):
        if len(things) >= wanted:
            break
        name = possible[rng.choice(len(possible), p=chances / chances.sum())]
        added = _add(stage, name, things, beside=None)
        if added and rng.random() < KINDS[name].company:
            _add(stage, name, things, beside=things[-1])
    flying = [thing for thing in things if KINDS[thing.name].flies]
    others = [thing for thing in things if not KINDS[thing.name].flies]
    return sorted(flying, key=lambda thing: thing.size) + sorted(others, key=lambda thing: thing.y)


def _add(stage: Stage, name: str, things: list[Thing], beside: Thing | None) -> bool:
    """Add a thing of this kind to the list, if a place for it is found."""
    spot = _find_spot(stage, KINDS[name], things, beside)
    if spot is not None:
        things.append(_make(stage, name, *spot))
    return spot is not None


def _make(stage: Stage, name: str, x: float, y: float, size: float) -> Thing:
    on_sand = stage.cover[int(y), int(x)] == SAND
    parts = KINDS[name].draw(stage.rng, bool(on_sand))
    return Thing(name, x, y, size, paint(parts, size, stage.to_light, stage.tint, stage.unit))


def _find_spot(
    stage: Stage, kind: Kind, things: list[Thing], beside: Thing | None
) -> tuple[float, float, float] | None:
    """(x, y, size) anywhere, or close to another thing; None where nothing fits."""
    rng = stage.rng
    for _ in range(TRIES):
        if beside is not None:
            x = beside.x + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1) * beside.size
            y = beside.y + rng.uniform(-0.3, 0.3) * beside.size
            size = beside.size * rng.uniform(0.75, 1.15)
        else:
            depth = rng.uniform(kind.farthest, kind.nearest)
            x = rng.uniform(0.04, 0.96) * stage.width
            if kind.flies:
                y, scale = depth * stage.horizon, rng.uniform(0.6, 1.1)
            else:
                y = stage.horizon + depth * (stage.height - stage.horizon)
                scale = (0.5 + 0.5 * depth) * rng.uniform(0.85, 1.15)
            size = scale * kind.size * stage.unit
        if _at_home(stage, kind, x, y, size) and not _crowded(things, x, y, size):
            return x, y, size
    return None


def _at_home(stage: Stage, kind: Kind, x: float, y: float, size: float) -> bool:
    """Whether the foot of a thing, or all of one that flies or swims, has around it what it should have."""
    across, up = kind.needs[0] * size, kind.needs[1] * size
    edge = 0.15 * size  # how far things may stick out of the image's sides
    for dx in (-across, 0.0, across):
        for dy in (-up, up):
            column, row = int(x + dx), int(y + dy)
            if not 0 <= row < stage.height or not -edge <= column < stage.width + edge:
                return False
            column = min(max(column, 0), stage.width - 1)
            if stage.cover[row, column] not in kind.homes:
                return False
            if not kind.flies and stage.haze[row, column] > FARTHEST_HAZE:
                return False
    return True


def _crowded(things: list[Thing], x: float, y: float, size: float) -> bool:
    """Whether another thing is so near that one would hide most of the other."""
    return any(np.hypot(thing.x - x, 1.4 * (thing.y - y)) < NEAREST * (thing.size + size) for thing in things)
