"""Times of day: the colours of sky and light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = np.ndarray  # [3] float32, RGB, 0 to 1


def rgb(text: str) -> Colour:
    """``"ff8800"`` as a colour."""
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255


def vary(rng: np.random.Generator, colour: Colour, amount: float = 0.06) -> Colour:
    """The colour, a little lighter or darker and a little shifted."""
    return np.clip(colour * (1 + rng.uniform(-amount, amount)) + rng.uniform(-amount, amount, 3) * 0.5, 0, 1).astype(
        np.float32
    )


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """From ``a`` (share 0) to ``b`` (share 1)."""
    return a + (b - a) * np.float32(share)


def pick(rng: np.random.Generator, colours: list[str]) -> Colour:
    """One of the colours, varied."""
    return vary(rng, rgb(colours[rng.integers(len(colours))]))


@dataclass(frozen=True)
class TimeOfDay:
    """Colours that go together.

    Attributes:
        sky: colour pairs (top of the image, horizon) to choose from.
        sun: the disc and its glow.
        glow: strength of the glow, 0 to 1.
        height: range of the sun's height, as a share of the sky.
        cloud: lit side, shaded side.
        tint: multiplies every surface.
        water: near, far.
        shadow: length of shadows relative to the height of what casts them.
    """

    name: str
    sky: tuple[tuple[str, str], ...]
    sun: str
    glow: float
    height: tuple[float, float]
    cloud: tuple[str, str]
    tint: tuple[float, float, float]
    water: tuple[tuple[str, str], ...]
    shadow: float


TIMES_OF_DAY = (
    TimeOfDay(
        name="morning",
        sky=(("7fb2e5", "fde3cf"), ("8cc0e8", "ffeedd"), ("9fb6e6", "ffd9d6")),
        sun="fff3c4",
        glow=0.75,
        height=(0.35, 0.7),
        cloud=("fffaf3", "e6d3d8"),
        tint=(1.03, 0.99, 0.93),
        water=(("3f86b5", "a9d3e2"), ("4a93a8", "bfdcd8")),
        shadow=0.55,
    ),
    TimeOfDay(
        name="noon",
        sky=(("3f92e0", "c6e8fb"), ("4aa3ea", "d4f0fa"), ("5a9be0", "d5e6fb")),
        sun="fffbe0",
        glow=0.55,
        height=(0.08, 0.35),
        cloud=("ffffff", "cfdcec"),
        tint=(1.04, 1.04, 1.02),
        water=(("1f6fb8", "5fb4dc"), ("1c86a8", "73c8d8"), ("2a62b0", "6fa8e0")),
        shadow=0.28,
    ),
    TimeOfDay(
        name="sunset",
        sky=(("5b4a9c", "ffa764"), ("7a4f96", "ff9a7a"), ("45609f", "ffc37c"), ("93478a", "ffb56b")),
        sun="fff0b0",
        glow=1.0,
        height=(0.62, 0.9),
        cloud=("ffcfa6", "a9689c"),
        tint=(1.02, 0.92, 0.86),
        water=(("2f5597", "9a8fc0"), ("35628f", "8fa0c4")),
        shadow=0.8,
    ),
)
