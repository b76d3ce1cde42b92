"""Outlines of which things are put together.

Lengths are shares of the thing's size; (0, 0) is its foot (of a flying or swimming thing: its middle), x goes right
and y goes UP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mask2former_shapes.light import Colour

Points = np.ndarray  # [n, 2] float


@dataclass(frozen=True)
class Part:
    """One filled outline.

    Attributes:
        points: the outline.
        colour: of it.
        round: how round it looks, 0 (flat) to 1 (a ball).
        rim: how dark its edge is inked, 0 (not) to 1.
        clip: paint it only where the last part without ``clip`` is, as a pattern on it.
    """

    points: Points
    colour: Colour
    round: float = 0.4
    rim: float = 0.35
    clip: bool = False


def pattern(points: Points, colour: Colour, round: float = 0.0, rim: float = 0.0) -> Part:
    """A part on the part before it."""
    return Part(points, colour, round, rim, clip=True)


def polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, float)


def box(x: float, y: float, width: float, height: float) -> Points:
    """A rectangle; (x, y) is the middle of its lower edge."""
    return polygon((x - width / 2, y), (x + width / 2, y), (x + width / 2, y + height), (x - width / 2, y + height))


def ellipse(
    x: float, y: float, across: float, up: float, turn: float = 0.0, start: float = 0.0, end: float = 360.0
) -> Points:
    """An ellipse, or the part of it between two angles (degrees, counter-clockwise from the right).

    Args:
        x, y: its middle.
        across, up: half axes.
        turn: degrees, counter-clockwise.
    """
    angles = np.radians(np.linspace(start, end, 36, endpoint=end - start < 360))
    return moved(rotated(np.stack([across * np.cos(angles), up * np.sin(angles)], axis=1), turn), x, y)


def rotated(points: Points, degrees: float) -> Points:
    """Turned counter-clockwise around (0, 0)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]])


def moved(points: Points, x: float, y: float) -> Points:
    """Shifted by (x, y)."""
    return np.add(points, (x, y))


def smooth(points: Points, rounds: int = 3) -> Points:
    """Corners cut off, again and again (Chaikin's curve)."""
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points


def bar(x0: float, y0: float, x1: float, y1: float, width: float) -> Points:
    """A straight stroke."""
    half = 0.5 * width / max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
    dx, dy = -(y1 - y0) * half, (x1 - x0) * half
    return polygon((x0 + dx, y0 + dy), (x0 - dx, y0 - dy), (x1 - dx, y1 - dy), (x1 + dx, y1 + dy))


def turned(parts: list[Part], degrees: float, flip: bool) -> list[Part]:
    """All parts turned counter-clockwise around (0, 0), then mirrored if wanted."""
    mirror = np.array([-1.0 if flip else 1.0, 1.0])
    return [Part(rotated(p.points, degrees) * mirror, p.colour, p.round, p.rim, p.clip) for p in parts]
