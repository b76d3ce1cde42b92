"""Landscapes: which stuff lies where. Each function covers the ground below the sky of a fresh stage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mask2former_shapes.stage import GRASS, SAND, WATER, Stage
from mask2former_shapes.texture import wavy


def meadow(stage: Stage) -> None:
    """Rolling hills, one behind the other."""
    _hills(stage, layers=int(stage.rng.integers(1, 4)))
    _ground(stage, GRASS)
    if stage.rng.random() < 0.5:
        _path(stage)


def lake(stage: Stage) -> None:
    """Water between far hills and a near shore."""
    near = SAND if stage.rng.random() < 0.4 else GRASS
    _hills(stage, layers=int(stage.rng.integers(1, 3)))
    _ground(stage, WATER)
    shore = _at(stage, stage.rng.uniform(0.5, 0.72)) + wavy(stage.rng, stage.x, 1.3 * stage.width) * 0.09 * stage.height
    shore += (stage.x / stage.width - 0.5) * stage.rng.uniform(-0.3, 0.3) * stage.height
    stage.lay(stage.below(shore), near)
    if near == GRASS and stage.rng.random() < 0.6:  # a rim of sand
        rim = shore + stage.unit * (stage.rng.uniform(5, 12) + 3 * wavy(stage.rng, stage.x, 0.6 * stage.width))
        stage.lay(stage.below(shore) & ~stage.below(rim), SAND)


def seaside(stage: Stage) -> None:
    """The open sea, a beach, and perhaps grass behind the dunes."""
    _ground(stage, WATER)
    if stage.rng.random() < 0.6:
        _headland(stage)
    shore = _at(stage, stage.rng.uniform(0.35, 0.6)) + wavy(stage.rng, stage.x, 1.6 * stage.width) * 0.08 * stage.height
    shore += (stage.x / stage.width - 0.5) * stage.rng.uniform(-0.45, 0.45) * stage.height
    shore = np.maximum(shore, _at(stage, 0.12))
    stage.lay(stage.below(shore), SAND)
    if stage.rng.random() < 0.55:
        dunes = np.maximum(_at(stage, 0.82) + wavy(stage.rng, stage.x, stage.width) * 0.07 * stage.height, shore)
        stage.lay(stage.below(dunes + 8 * stage.unit), GRASS)


def river(stage: Stage) -> None:
    """A river that winds from the hills to the bottom of the image."""
    _hills(stage, layers=int(stage.rng.integers(1, 3)))
    _ground(stage, GRASS)
    depth = np.clip((stage.y - stage.horizon) / (stage.height - stage.horizon), 0, 1)
    middle = stage.width * (
        stage.rng.uniform(0.3, 0.7)
        + stage.rng.uniform(-0.25, 0.25) * depth
        + 0.16 * np.sqrt(depth) * np.sin(depth * stage.rng.uniform(4, 8) + stage.rng.uniform(0, 6))
    )
    half = stage.width * (0.012 + stage.rng.uniform(0.15, 0.26) * depth**0.75)
    ground = stage.below(_at(stage, 0.0))
    away = np.abs(stage.x[None, :] - middle[:, None])
    if stage.rng.random() < 0.6:
        bank = stage.unit * (1 + 10 * depth)
        stage.lay(ground & (away < (half + bank)[:, None]), SAND)
    stage.lay(ground & (away < half[:, None]), WATER)


def pond(stage: Stage) -> None:
    """A pond in a meadow or an oasis in the sand."""
    ground, rim = (GRASS, SAND) if stage.rng.random() < 0.6 else (SAND, GRASS)
    _hills(stage, layers=int(stage.rng.integers(1, 3)))
    _ground(stage, ground)
    x = stage.width * stage.rng.uniform(0.3, 0.7)
    y = _at(stage, stage.rng.uniform(0.45, 0.65))
    across, down = stage.width * stage.rng.uniform(0.3, 0.44), (stage.height - stage.horizon) * 0.3
    dx, dy = (stage.x[None, :] - x) / across, (stage.y[:, None] - y) / down
    angle = np.arctan2(dy, dx)
    wobble = sum(stage.rng.uniform(0.02, 0.08) * np.sin(k * angle + stage.rng.uniform(0, 6)) for k in (2, 3, 5))
    radius = np.hypot(dx, dy) + wobble
    inside = stage.below(_at(stage, 0.03))
    if stage.rng.random() < 0.7:
        stage.lay(inside & (radius < 1.0 + stage.rng.uniform(0.12, 0.25)), rim)
    stage.lay(inside & (radius < 1.0), WATER)


def dunes(stage: Stage) -> None:
    """Sand hills with grass between them."""
    for layer in range(int(stage.rng.integers(2, 4))):
        crest = _at(stage, -0.08 + 0.16 * layer) - np.abs(wavy(stage.rng, stage.x, 1.3 * stage.width, 2)) * (
            0.14 * stage.height
        )
        stage.lay(stage.below(crest), SAND, haze=0.28 - 0.14 * layer)
    front = _at(stage, stage.rng.uniform(0.55, 0.75)) + wavy(stage.rng, stage.x, stage.width) * 0.1 * stage.height
    front += (stage.x / stage.width - 0.5) * stage.rng.uniform(-0.3, 0.3) * stage.height
    stage.lay(stage.below(front), GRASS)


def island(stage: Stage) -> None:
    """Islands in the sea."""
    _ground(stage, WATER)
    _headland(stage)
    for _ in range(int(stage.rng.integers(1, 3))):
        x, y = stage.width * stage.rng.uniform(0.1, 0.9), _at(stage, stage.rng.uniform(0.3, 0.75))
        size = 0.5 + stage.depth(y)
        across, up = stage.width * stage.rng.uniform(0.2, 0.32) * size, stage.height * 0.1 * size
        flat = np.clip(1 - ((stage.x - x) / across) ** 2, 0, None)
        beach = (stage.y[:, None] < y + 0.35 * up * np.sqrt(flat)) & stage.below(y - up * flat**1.5 * 0.6) & (flat > 0)
        hill = (stage.y[:, None] < y - 0.1 * up) & stage.below(
            y - up * (flat**1.2 * 1.25 + 0.1 * wavy(stage.rng, stage.x, across) * flat)
        )
        stage.lay(beach, SAND)
        stage.lay(hill & (flat > 0.15), GRASS)


LANDSCAPES: tuple[tuple[Callable[[Stage], None], float], ...] = (  # with how often each occurs
    (meadow, 0.14),
    (lake, 0.22),
    (seaside, 0.22),
    (river, 0.14),
    (pond, 0.12),
    (dunes, 0.06),
    (island, 0.10),
)


def _at(stage: Stage, depth: float) -> float:
    """y of the ground at a depth: 0 at the horizon, 1 at the bottom."""
    return stage.horizon + depth * (stage.height - stage.horizon)


def _ground(stage: Stage, stuff: int) -> None:
    far = np.clip(1 - (stage.y - stage.horizon) / (0.5 * (stage.height - stage.horizon)), 0, 1) * 0.3
    stage.lay(stage.below(_at(stage, 0.0)), stuff, haze=np.repeat(far[:, None], stage.width, axis=1))


def _hills(stage: Stage, layers: int) -> None:
    """Hills of grass that stand on the horizon, the farthest first and palest."""
    for layer in range(layers, 0, -1):
        height = min(stage.height * (0.05 + 0.05 * layer), 0.35 * stage.horizon) * stage.rng.uniform(0.6, 1.1)
        crest = _at(stage, 0.02) - height * (
            0.6 + 0.55 * wavy(stage.rng, stage.x, stage.width * stage.rng.uniform(0.7, 1.4), 2)
        )
        stage.lay(stage.below(crest), GRASS, haze=0.22 + 0.14 * layer)


def _headland(stage: Stage) -> None:
    """A far, hilly coast that leaves one side of the horizon free."""
    start, length = stage.rng.uniform(0.05, 0.5), stage.rng.uniform(0.35, 0.6)
    share = np.clip((stage.x / stage.width - start) / length, 0, 1)
    if stage.rng.random() < 0.5:
        share = share[::-1]
    crest = stage.horizon - stage.height * 0.12 * np.sin(np.pi * share) * (
        0.75 + 0.4 * wavy(stage.rng, stage.x, 0.5 * stage.width)
    )
    coast = stage.below(crest) & (stage.y[:, None] < stage.horizon + 2 * stage.unit) & ((share > 0) & (share < 1))
    stage.lay(coast, GRASS, haze=0.4)


def _path(stage: Stage) -> None:
    """A sandy way to the hills."""
    depth = np.clip((stage.y - stage.horizon) / (stage.height - stage.horizon), 0, 1)
    middle = stage.width * (
        stage.rng.uniform(0.35, 0.65)
        + stage.rng.uniform(-0.2, 0.2) * depth
        + 0.15 * np.sqrt(depth) * np.sin(depth * stage.rng.uniform(3, 6) + stage.rng.uniform(0, 6))
    )
    half = stage.unit * (3 + stage.rng.uniform(12, 22) * depth)
    way = np.abs(stage.x[None, :] - middle[:, None]) < half[:, None]
    stage.lay(way & stage.below(_at(stage, 0.05)), SAND)
