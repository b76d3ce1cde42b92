"""Things in the water and in the air: boat, fish, bird, balloon."""

from __future__ import annotations

import numpy as np

from mask2former_shapes.light import mix, pick, rgb
from mask2former_shapes.things.shapes import Part, bar, box, ellipse, moved, pattern, polygon, smooth, turned

BRIGHT = ["e4443a", "f2b632", "3f7fd1", "3aa17e", "8e55c2", "ef7f3a", "e65c9c"]


def boat(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A sailing boat or a small steamer."""
    parts = _sails(rng) if rng.random() < 0.65 else _steamer(rng)
    hull = pick(rng, ["8a4f2a", "a8402f", "2f4f7f", "6f3d2a", "f0e6d2"])
    stripe = pick(rng, ["f7efe0", "e7b93f", "c23b30"])
    outline = polygon(
        (-0.5, 0.23), (-0.2, 0.19), (0.2, 0.19), (0.56, 0.27), (0.42, 0.04), (0.3, -0.02), (-0.33, -0.02), (-0.43, 0.05)
    )
    parts += [Part(outline, hull, 0.5, 0.45), pattern(box(0, 0.12, 1.2, 0.045), stripe)]
    return turned(parts, rng.uniform(-4, 4), bool(rng.random() < 0.5))


def _sails(rng: np.random.Generator) -> list[Part]:
    sail = pick(rng, ["fdfaf0", "fdfaf0", "f3dcb2", "e5533d", "f2c14e"])
    top = rng.uniform(0.95, 1.1)
    parts = [
        Part(bar(0.02, 0.15, 0.02, top, 0.04), rgb("6b4a2f"), 0.3),
        Part(smooth(polygon((-0.03, top - 0.04), (-0.03, 0.27), (-0.46, 0.29), (-0.26, 0.55)), 2), sail, 0.45),
    ]
    if rng.random() < 0.5:
        parts.append(pattern(box(-0.2, 0.42, 0.8, 0.11), mix(sail, pick(rng, BRIGHT), 0.8)))
    parts.append(
        Part(smooth(polygon((0.07, top - 0.12), (0.07, 0.3), (0.47, 0.3), (0.24, 0.52)), 2), sail * 0.93, 0.45)
    )
    if rng.random() < 0.6:
        parts.append(Part(polygon((0.02, top), (0.02, top - 0.1), (-0.17, top - 0.05)), pick(rng, BRIGHT), 0.0))
    return parts


def _steamer(rng: np.random.Generator) -> list[Part]:
    funnel = pick(rng, BRIGHT)
    parts = [
        Part(box(0.1, 0.4, 0.14, 0.34), funnel, 0.6),
        pattern(box(0.1, 0.64, 0.3, 0.06), rgb("3b3440")),
        Part(box(0.0, 0.18, 0.58, 0.26), rgb("f6f1e6"), 0.1),
        Part(box(0.0, 0.42, 0.66, 0.05), pick(rng, BRIGHT), 0.1),
    ]
    for x in (-0.17, 0.0, 0.17):
        parts.append(Part(ellipse(x, 0.31, 0.05, 0.05), rgb("5f95b8"), 0.0, 0.5))
    return parts


def fish(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A fish seen from the side, head to the right before it is turned."""
    skin = pick(rng, ["ff8a2b", "ffb52e", "f2553d", "ff6f91", "f7d046", "f49a5c"])
    fin = mix(skin, pick(rng, ["c9302c", "ffe9a8", "7a2f8f"]), 0.55)
    high = rng.uniform(0.22, 0.3)
    body = smooth(
        polygon(
            (0.5, 0.02),
            (0.32, high * 1.05),
            (-0.05, high * 1.1),
            (-0.36, 0.05),
            (-0.36, -0.05),
            (-0.05, -high * 1.1),
            (0.32, -high * 0.95),
        )
    )
    parts = [
        Part(smooth(polygon((-0.26, 0), (-0.56, 0.28), (-0.48, 0), (-0.56, -0.28)), 2), fin, 0.3),
        Part(
            smooth(polygon((0.2, high * 0.7), (-0.02, high * 1.75), (-0.24, high * 0.9), (-0.15, high * 0.3)), 2),
            fin,
            0.2,
        ),
        Part(smooth(polygon((0.1, -high * 0.7), (-0.08, -high * 1.5), (-0.18, -high * 0.6)), 2), fin, 0.2),
        Part(body, skin, 0.8),
    ]
    if rng.random() < 0.6:
        stripe = rgb("fff7e6") if rng.random() < 0.6 else skin * 0.6
        for x in (0.14, -0.1)[: int(rng.integers(1, 3))]:
            parts.append(pattern(box(x, -0.5, 0.085, 1.0), stripe))
    parts += [
        pattern(ellipse(0.27, 0.07, 0.075, 0.075), rgb("ffffff")),
        pattern(ellipse(0.29, 0.07, 0.04, 0.042), rgb("22202a")),
        Part(smooth(polygon((0.06, -0.02), (-0.14, 0.06), (-0.12, -0.12)), 2), fin, 0.0),
    ]
    return turned(parts, rng.uniform(-18, 18), bool(rng.random() < 0.5))


def bird(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A flying bird seen from the side, head to the right before it is turned."""
    plumage = pick(rng, ["4a4fa3", "7a3f9a", "2f3e63", "b23a48", "394b4f", "5b3a2e"])
    belly = mix(plumage, rgb("ffe9c9"), 0.65)
    lift = rng.uniform(0.3, 0.55)
    wing = smooth(polygon((0.16, 0.05), (0.02, lift), (-0.2, lift + 0.1), (-0.18, lift * 0.5), (-0.16, 0.02)), 2)
    far_wing = smooth(polygon((0.2, 0.05), (0.22, lift * 0.9), (0.08, lift + 0.06), (0.04, 0.05)), 2)
    if rng.random() < 0.35:  # wings down
        wing, far_wing = wing * (1, -0.8), far_wing * (1, -0.7)
    parts = [
        Part(far_wing, plumage * 0.75, 0.2),
        Part(polygon((-0.22, 0.02), (-0.56, 0.12), (-0.5, 0.0), (-0.57, -0.09), (-0.22, -0.06)), plumage * 0.85, 0.1),
        Part(
            smooth(polygon((0.34, 0.05), (0.1, 0.17), (-0.28, 0.07), (-0.28, -0.05), (0.08, -0.2), (0.3, -0.1))),
            plumage,
            0.7,
        ),
        pattern(ellipse(0.06, -0.14, 0.26, 0.1), belly),
        Part(polygon((0.45, 0.14), (0.64, 0.07), (0.45, 0.02)), rgb("f4a52a"), 0.2),
        Part(ellipse(0.36, 0.09, 0.15, 0.14), plumage, 0.7),
        pattern(ellipse(0.41, 0.12, 0.04, 0.04), rgb("ffffff")),
        Part(wing, plumage * 1.12, 0.3),
    ]
    return turned(parts, rng.uniform(-8, 18), bool(rng.random() < 0.5))


def balloon(rng: np.random.Generator, on_sand: bool) -> list[Part]:
    """A striped hot-air balloon, or a toy balloon on a string."""
    first, second = (rgb(BRIGHT[i]) for i in rng.permutation(len(BRIGHT))[:2])
    if rng.random() < 0.3:
        return _toy_balloon(first)
    if rng.random() < 0.4:
        second = rgb("fff6e4")
    envelope = smooth(
        polygon((-0.1, -0.3), (-0.42, 0.06), (-0.46, 0.45), (0, 0.74), (0.46, 0.45), (0.42, 0.06), (0.1, -0.3))
    )
    parts = [
        Part(bar(-0.09, -0.28, -0.07, -0.46, 0.03), rgb("5a4636"), 0, 0),
        Part(bar(0.09, -0.28, 0.07, -0.46, 0.03), rgb("5a4636"), 0, 0),
        Part(box(0, -0.6, 0.2, 0.16), rgb("a9713a"), 0.3, 0.5),
        Part(envelope, first, 0.0, 0.0),
    ]
    squeezed = moved(envelope, 0, -0.2)
    for share, colour in ((0.66, second), (0.26, first)):
        parts.append(pattern(moved(squeezed * (share, 1.03), 0, 0.2), colour))
    if rng.random() < 0.5:
        parts.append(pattern(box(0, 0.16, 1, 0.12), mix(second, rgb("ffffff"), 0.3)))
    return [*parts, pattern(envelope, np.full(3, np.nan, np.float32), 1.0, 0.4)]


def _toy_balloon(skin: np.ndarray) -> list[Part]:
    heights = np.linspace(-0.16, -0.72, 6)
    sway = 0.025 * np.sin(heights * 14)
    string = np.concatenate([np.stack([sway - 0.028, heights], 1), np.stack([sway + 0.028, heights], 1)[::-1]])
    return [
        Part(string, rgb("6f6a72"), 0, 0),
        Part(polygon((0, -0.16), (-0.07, -0.28), (0.07, -0.28)), skin * 0.85, 0.0),
        Part(smooth(polygon((0, -0.24), (-0.3, 0.08), (-0.34, 0.42), (0, 0.62), (0.34, 0.42), (0.3, 0.08))), skin, 1.0),
        pattern(ellipse(-0.13, 0.3, 0.05, 0.1, turn=-25), mix(skin, rgb("ffffff"), 0.75)),
    ]
