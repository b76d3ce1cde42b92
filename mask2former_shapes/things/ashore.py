"""Things that stand or lie on the ground: tree, house, mushroom, ball."""

from __future__ import annotations

import numpy as np

from mask2former_shapes.light import mix, pick, rgb, vary
from mask2former_shapes.things.shapes import (
    Part,
    Points,
    bar,
    box,
    ellipse,
    moved,
    pattern,
    polygon,
    rotated,
    smooth,
    turned,
)

BARK = ["7a5230", "8a5f3a", "6b4a33"]


def tree(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """Palms on sand; broad-leaved trees, firs and poplars on grass."""
    if on_sand:
        return _palm(rng)
    return (_leafy, _leafy, _fir, _poplar)[rng.integers(4)](rng)


def _leafy(rng: np.random.Generator) -> list[Part]:
    leaves = pick(rng, ["2f7d3b", "3c8a34", "24683f", "4b7f2a", "c8762b", "b5482f"])
    trunk = pick(rng, BARK)
    width = rng.uniform(0.09, 0.13)
    parts = [
        Part(
            smooth(
                polygon(
                    (-width, 0),
                    (width, 0),
                    (width * 0.5, 0.25),
                    (width * 0.6, 0.5),
                    (-width * 0.6, 0.5),
                    (-width * 0.5, 0.25),
                ),
                2,
            ),
            trunk,
            0.6,
        )
    ]
    spread = rng.uniform(0.2, 0.27)
    heap = [(0.0, 0.78), (-spread, 0.58), (spread, 0.6), (0.0, 0.55), (-0.6 * spread, 0.72), (0.65 * spread, 0.7)]
    for number, (x, y) in enumerate(heap[: int(rng.integers(4, 7))]):
        radius = rng.uniform(0.17, 0.23)
        parts.append(
            Part(ellipse(x + rng.normal(0, 0.015), y, radius * 1.05, radius), leaves * (0.86 + 0.05 * number), 0.8, 0.3)
        )
    if rng.random() < 0.35:
        fruit = pick(rng, ["e03b2f", "f2a93b", "f6d5e0"])
        for _ in range(6):
            x, y = rng.uniform(-0.24, 0.24), rng.uniform(0.5, 0.8)
            parts.append(Part(ellipse(x, y, 0.032, 0.032), fruit, 0.5))
    return parts


def _fir(rng: np.random.Generator) -> list[Part]:
    needles = pick(rng, ["1f6045", "2a6b3f", "1f5a57", "356b32"])
    parts = [Part(box(0, 0, 0.13, 0.25), pick(rng, BARK), 0.6)]
    storeys = int(rng.integers(3, 5))
    width = rng.uniform(0.26, 0.34)
    for storey in range(storeys):
        share = storey / storeys
        low, high = 0.14 + 0.8 * share * 0.85, 0.14 + 0.8 * share * 0.85 + 0.42 * (1 - 0.35 * share)
        half = width * (1 - 0.62 * share)
        parts.append(
            Part(
                polygon(
                    (0, min(high, 1.0)),
                    (-half, low),
                    (-half * 0.5, low + 0.03),
                    (-half * 0.1, low - 0.02),
                    (half * 0.4, low + 0.03),
                    (half, low),
                ),
                needles * (0.9 + 0.1 * share),
                0.5,
                0.4,
            )
        )
    return parts


def _poplar(rng: np.random.Generator) -> list[Part]:
    leaves = pick(rng, ["4d8f3a", "3a7a45", "6a8f2f", "d09a2c"])
    half = rng.uniform(0.16, 0.24)
    crown = smooth(
        polygon(
            (0, 1.04),
            (-half, 0.72),
            (-half * 1.25, 0.42),
            (-half * 0.5, 0.18),
            (half * 0.5, 0.18),
            (half * 1.25, 0.42),
            (half, 0.72),
        )
    )
    parts = [Part(box(0, 0, 0.09, 0.3), pick(rng, BARK), 0.6), Part(crown, leaves, 0.8)]
    for _ in range(5):
        x, y = rng.uniform(-half, half), rng.uniform(0.3, 0.9)
        parts.append(pattern(ellipse(x, y, 0.06, 0.045), leaves * rng.uniform(0.85, 1.15), 0.2))
    return parts


def _palm(rng: np.random.Generator) -> list[Part]:
    lean = rng.uniform(-0.22, 0.22)
    rise = np.linspace(0, 1, 6)
    left = np.stack([lean * rise**2 - 0.05 * (1 - 0.45 * rise), 0.72 * rise], axis=1)
    right = np.stack([lean * rise**2 + 0.05 * (1 - 0.45 * rise), 0.72 * rise], axis=1)
    trunk = pick(rng, ["a77a48", "98683c"])
    parts = [Part(np.concatenate([left, right[::-1]]), trunk, 0.6)]
    for height in np.linspace(0.08, 0.66, 7):
        parts.append(pattern(box(lean * (height / 0.72) ** 2, height, 0.16, 0.022), trunk * 0.72))
    leaves = pick(rng, ["3f9142", "2f8450", "5a9a34"])
    for angle in rng.permutation(np.linspace(-25, 205, 7)) + rng.normal(0, 5, 7):
        parts.append(Part(moved(_frond(angle), lean, 0.72), vary(rng, leaves, 0.1), 0.5, 0.35))
    for x in (-0.045, 0.03):
        parts.append(Part(ellipse(lean + x, 0.69, 0.04, 0.045), rgb("6b4423"), 0.7))
    return parts


def _frond(angle: float) -> Points:
    """A palm leaf that leaves (0, 0) in a direction (degrees) and hangs down at its end."""
    reach = np.linspace(0, 1, 7)
    along = np.stack(
        [np.cos(np.radians(angle)) * 0.42 * reach, np.sin(np.radians(angle)) * 0.26 * reach - 0.22 * reach**2], axis=1
    )
    thick = 0.062 * np.sin(np.pi * np.clip(reach * 0.9 + 0.08, 0, 1))[:, None] * (0.25, 1.0)
    return np.concatenate([along + thick, (along - thick)[::-1]])


def house(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A cottage seen from the corner or from the front."""
    wall = pick(rng, ["f4ead6", "f3d9b1", "e8b9a4", "dfe7ea", "f2e394", "cfe0c3", "c96f57"])
    roof = pick(rng, ["b3402f", "c65a36", "7d3b3b", "4f6d8f", "8a5a34", "5b5f73"])
    door = pick(rng, ["7a4526", "2f6f6a", "a3352e", "3a5a9a"])
    glass = pick(rng, ["8fc4de", "ffd978", "6a9cc0"])
    high, peak, split = rng.uniform(0.42, 0.52), rng.uniform(0.82, 1.0), rng.uniform(0.0, 0.1)
    parts: list[Part] = []
    if rng.random() < 0.6:
        parts.append(Part(box(0.28, peak - 0.22, 0.09, 0.24), mix(roof, rgb("8a6a5a"), 0.6), 0.2))  # chimney
    if rng.random() < 0.6:
        half = 0.25
        gable = split - half  # x of the ridge's front end
        parts += [
            Part(polygon((split, 0), (0.5, 0.06), (0.5, high), (split, high)), wall * 0.8, 0.0),
            Part(
                polygon(
                    (split - 2 * half, 0), (split, 0), (split, high), (gable, peak - 0.05), (split - 2 * half, high)
                ),
                wall,
                0.0,
            ),
            Part(polygon((gable, peak), (0.36, peak), (0.57, high - 0.05), (split + 0.05, high - 0.06)), roof, 0.15),
            Part(bar(gable + 0.01, peak - 0.02, split - 2 * half - 0.05, high - 0.07, 0.07), roof * 0.85, 0.0),
        ]
        parts += _window(0.5 * (split + 0.5), 0.17, 0.13, 0.17, glass * 0.9)
        parts += _door(gable, 0.12, 0.27, door)
        parts.append(Part(ellipse(gable, high + 0.07, 0.055, 0.055), glass, 0.0, 0.5))
        return turned(parts, 0, bool(rng.random() < 0.5))
    parts += [
        Part(box(0, 0, 0.86, high), wall, 0.0),
        Part(polygon((-0.53, high - 0.05), (0.53, high - 0.05), (0.36, peak), (-0.36, peak)), roof, 0.15),
    ]
    for y in np.linspace(high + 0.05, peak - 0.08, 3):
        parts.append(pattern(box(0, y, 1.1, 0.02), roof * 0.8))
    parts += _window(-0.26, 0.16, 0.16, 0.18, glass) + _window(0.26, 0.16, 0.16, 0.18, glass)
    parts += _door(0.0, 0.15, 0.3, door)
    return parts


def _window(x: float, y: float, width: float, height: float, glass: np.ndarray) -> list[Part]:
    return [
        Part(box(x, y, width + 0.05, height + 0.05), rgb("fbf7ee"), 0.0, 0.3),
        Part(box(x, y + 0.025, width, height), glass, 0.0, 0.2),
        Part(bar(x, y + 0.02, x, y + height + 0.03, 0.025), rgb("fbf7ee"), 0.0, 0.0),
    ]


def _door(x: float, width: float, height: float, colour: np.ndarray) -> list[Part]:
    arch = ellipse(x, height - width / 2, width / 2, width / 2, start=0, end=180)
    return [Part(np.concatenate([polygon((x - width / 2, 0), (x + width / 2, 0)), arch]), colour, 0.1, 0.5)]


def mushroom(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A stem and a spotted cap; sometimes a small one beside it."""
    cap = pick(rng, ["d6322f", "c73a5e", "b5622f", "8d4fa8", "e0872f"])
    spots = rgb("fff6ea") if rng.random() < 0.8 else cap * 0.75
    wide, high = rng.uniform(0.42, 0.52), rng.uniform(0.4, 0.52)
    parts = _toadstool(rng, 0.0, 1.0, wide, high, cap, spots)
    if rng.random() < 0.35:
        side = float(rng.choice([-1.0, 1.0]))
        parts = _toadstool(rng, side * rng.uniform(0.42, 0.5), rng.uniform(0.45, 0.6), wide, high, cap, spots) + parts
    return parts


def _toadstool(
    rng: np.random.Generator, x: float, size: float, wide: float, high: float, cap: np.ndarray, spots: np.ndarray
) -> list[Part]:
    stem = smooth(polygon((-0.17, 0), (0.17, 0), (0.11, 0.3), (0.12, 0.55), (-0.12, 0.55), (-0.11, 0.3)), 2)
    top = np.concatenate(
        [ellipse(0, 0.45, wide, high, start=0, end=180), ellipse(0, 0.45, wide, 0.1, start=180, end=360)]
    )
    parts = [
        Part(stem, rgb("f5ecd8"), 0.7),
        Part(top, cap, 0.9),
        pattern(ellipse(0, 0.43, wide * 0.8, 0.055), rgb("ead9c0") * 0.9),
    ]
    for dx, dy in ((-0.24, 0.2), (0.03, 0.32), (0.26, 0.17), (0.02, 0.13), (-0.42, 0.1), (0.42, 0.08)):
        radius = rng.uniform(0.05, 0.085)
        parts.append(pattern(ellipse(dx + rng.normal(0, 0.02), 0.45 + dy * high / 0.45, radius, radius * 0.85), spots))
    return [Part(moved(p.points * size, x, 0), p.colour, p.round, p.rim, p.clip) for p in parts]


def ball(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A beach ball, a striped ball or a spotted one."""
    bright = ["ef3e6d", "2f80ed", "f7b32b", "7b3fe4", "ff5a36", "14a39a"]
    first, second = (rgb(bright[i]) for i in rng.permutation(len(bright))[:2])
    second = rgb("fff8ec") if rng.random() < 0.5 else second
    parts = [Part(ellipse(0, 0.5, 0.5, 0.5), first, 0.0, 0.0)]
    style, turn = rng.integers(3), rng.uniform(0, 360)
    if style == 0:
        for start in range(0, 360, 120):
            wedge = ellipse(0, 0, 0.9, 0.9, turn=turn, start=start, end=start + 60)
            parts.append(pattern(moved(np.concatenate([[(0.0, 0.0)], wedge]), 0.08, 0.58), second))
    elif style == 1:
        across = rng.uniform(0.14, 0.2)
        parts.append(pattern(moved(rotated(box(0, -across, 2, 2 * across), turn), 0, 0.5), second))
    else:
        for angle in range(0, 360, 72):
            x, y = 0.32 * np.cos(np.radians(angle + turn)), 0.32 * np.sin(np.radians(angle + turn))
            parts.append(pattern(ellipse(x, 0.5 + y, 0.11, 0.11), second))
    # Light and shade of the whole ball lie over its pattern.
    return [*parts, pattern(ellipse(0, 0.5, 0.5, 0.5), np.full(3, np.nan, np.float32), 1.0, 0.5)]
