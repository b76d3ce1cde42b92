"""How stuff looks: sky, water, sand and grass, painted where a stage is covered with them."""

from __future__ import annotations

import cv2
import numpy as np

from mask2former_shapes import OVERSAMPLING
from mask2former_shapes.light import mix, pick, rgb, vary
from mask2former_shapes.stage import GRASS, SAND, SKY, WATER, Stage
from mask2former_shapes.texture import noise, on_ground


def paint_surfaces(stage: Stage) -> None:
    """Paint every pixel of the stage according to what covers it.

    The surfaces themselves are as fine as the finished image, for speed; only their borders are as fine as the stage.
    """
    coarse = stage.reduced(OVERSAMPLING)
    hazy = (0.9 * stage.sky_low).astype(np.float32)
    for stuff, paint in ((SKY, _sky), (WATER, _water), (SAND, _sand), (GRASS, _grass)):
        where = stage.cover == stuff
        if not where.any():
            continue
        surface = paint(coarse, coarse.cover == stuff)
        if stuff != SKY:
            surface += (hazy - surface) * coarse.haze[..., None]
        np.clip(surface, 0, 1, out=surface)
        fine = cv2.resize(surface, (stage.width, stage.height), interpolation=cv2.INTER_NEAREST)
        cv2.copyTo(fine, where.astype(np.uint8), stage.colour)


def _gradient(stage: Stage, far: np.ndarray, near: np.ndarray, start: float, end: float) -> np.ndarray:
    """[H, W, 3]: ``far`` above y = start, ``near`` below y = end."""
    share = np.clip((stage.y - start) / max(end - start, 1), 0, 1)[:, None]
    rows = far * (1 - share) + near * share
    return np.repeat(rows[:, None, :], stage.width, axis=1).astype(np.float32)


def _sky(stage: Stage, where: np.ndarray) -> np.ndarray:
    surface = _gradient(stage, stage.sky_top, stage.sky_low, 0, stage.horizon * 1.02)
    sun = rgb(stage.time.sun)
    distance = np.hypot(stage.x[None, :] - stage.sun[0], stage.y[:, None] - stage.sun[1]) / stage.unit
    glow = stage.time.glow * (0.5 * np.exp(-distance / 14) + 0.45 * np.exp(-distance / 45))
    surface += (sun - surface) * glow[..., None]
    if stage.rng.random() < 0.8:
        disc = np.clip(stage.rng.uniform(6, 9) - distance + 0.5, 0, 1)[..., None]
        surface += (np.minimum(sun * 1.08, 1) - surface) * disc
    _clouds(stage, surface)
    return surface


def _clouds(stage: Stage, surface: np.ndarray) -> None:
    """Heaps of round puffs on a flat base, lit from above."""
    lit, shaded = rgb(stage.time.cloud[0]), rgb(stage.time.cloud[1])
    for _ in range(int(stage.rng.integers(0, 5))):
        scale = stage.unit * stage.rng.uniform(0.6, 1.5)
        x, base = stage.width * stage.rng.uniform(0, 1), stage.horizon * stage.rng.uniform(0.15, 0.8)
        layer = np.zeros((stage.height, stage.width), np.uint8)
        half = stage.rng.uniform(7, 16)
        for offset in np.linspace(-half, half, int(stage.rng.integers(4, 7))):
            radius = scale * (3 + 5.5 * (1 - (offset / half) ** 2)) * stage.rng.uniform(0.7, 1.15)
            centre = (round(16 * (x + offset * scale)), round(16 * (base - 0.75 * radius)))
            cv2.circle(layer, centre, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
        layer[max(round(base), 0) :] = 0  # flat below
        top = max(round(base - 19 * scale), 0)
        bottom = min(max(round(base + 3 * scale), top + 1), stage.height)
        soft = cv2.blur(layer[top:bottom], (2 * round(stage.unit) + 1,) * 2).astype(np.float32) / 255
        height = np.clip((base - stage.y[top:bottom]) / (13 * scale), 0, 1)[:, None, None]
        colour = shaded + (lit - shaded) * height**0.7
        patch = surface[top:bottom]
        patch += (colour - patch) * (soft * stage.rng.uniform(0.75, 0.95))[..., None]


def _water(stage: Stage, where: np.ndarray) -> np.ndarray:
    near, far = (rgb(text) for text in stage.time.water[stage.rng.integers(len(stage.time.water))])
    near, far = vary(stage.rng, near, 0.05), vary(stage.rng, far, 0.05)
    first = float(np.argmax(where.any(axis=1)))
    surface = _gradient(stage, mix(far, stage.sky_low, 0.2), near, first, stage.height)
    waves = on_ground(stage.rng, stage.height, stage.width, stage.horizon, stage.rng.uniform(5, 9), 3.0)
    surface *= (1 + 0.10 * waves)[..., None]
    crests = np.clip((waves - 0.75) * 4, 0, 1)
    # The sun's path on the water lies below it.
    off = (
        np.abs(stage.x[None, :] - stage.sun[0])
        / (stage.unit * (6 + 14 * np.clip((stage.y - first) / stage.height, 0, 1)))[:, None]
    )
    path = np.exp(-(off**2)) * stage.time.glow
    sparkle = np.clip(crests * 0.5 + path * np.clip(waves + 0.35, 0, 1) * 0.9, 0, 1)
    surface += (np.minimum(rgb(stage.time.sun) * 1.02, 1) - surface) * sparkle[..., None]
    return _shore(stage, where, surface)


def _shore(stage: Stage, where: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Shallow water and foam where there is a beach."""
    beach = (stage.cover == SAND) | ((stage.cover == GRASS) & (stage.haze < 0.2))
    if not beach.any():
        return surface
    distance = cv2.distanceTransform((~beach).astype(np.uint8), cv2.DIST_L2, 3) / stage.unit
    shallow = np.exp(-distance / 7)[..., None] * 0.45
    surface += (rgb("8fd8cf") * stage.tint - surface) * shallow
    wobble = noise(stage.rng, stage.height, stage.width, 24, 24)
    line = np.clip(1.6 + 0.9 * wobble - distance, 0, 1) + 0.6 * np.clip(0.7 - np.abs(distance - 5 - 1.6 * wobble), 0, 1)
    near_sand = cv2.dilate(
        (stage.cover == SAND).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=round(7 * stage.unit)
    )
    foam = np.clip(line, 0, 1) * np.where(near_sand > 0, 0.85, 0.25)
    surface += (rgb("ffffff") * stage.tint - surface) * foam[..., None]
    return surface


def _sand(stage: Stage, where: np.ndarray) -> np.ndarray:
    colour = pick(stage.rng, ["ecd194", "f0dcab", "e6c48c"])
    surface = _gradient(stage, colour * 1.05, colour * 0.93, stage.horizon, stage.height)
    ripples = on_ground(stage.rng, stage.height, stage.width, stage.horizon, 4.0, 4.0)
    surface *= (1 + 0.05 * ripples)[..., None]
    water = (stage.cover == WATER).astype(np.uint8)
    if water.any():
        distance = cv2.distanceTransform(1 - water, cv2.DIST_L2, 3) / stage.unit
        surface *= (1 - 0.24 * np.exp(-distance / 4))[..., None]  # wet sand is darker
    grains = stage.rng.random((stage.height, stage.width), dtype=np.float32)
    surface *= np.where(grains > 0.992, 0.84, np.where(grains < 0.012, 1.08, 1))[..., None]
    return surface * stage.tint


def _grass(stage: Stage, where: np.ndarray) -> np.ndarray:
    colour = pick(stage.rng, ["86c157", "7ab84f", "9ac75a", "6fb35c"])
    surface = _gradient(stage, mix(colour, rgb("d8d88a"), 0.25), colour * 0.82, stage.horizon * 0.8, stage.height)
    patches = on_ground(stage.rng, stage.height, stage.width, stage.horizon, 4.0, 1.5)
    surface *= (1 + 0.07 * patches + 0.05 * noise(stage.rng, stage.height, stage.width, 5, 5))[..., None]
    for brightness, thickness in ((0.72, 0.7), (1.22, 0.6)):
        blades = stage.strokes(_tufts(stage, where, 70), thickness)
        surface *= (1 + (brightness - 1) * blades)[..., None]
    _flowers(stage, where, surface)
    return surface * stage.tint


def _spots(stage: Stage, where: np.ndarray, count: int) -> np.ndarray:
    """[n, 2] (x, y): random places that are covered and are not in the distance."""
    x = stage.rng.integers(0, stage.width, count)
    y = (stage.horizon + (stage.height - stage.horizon) * stage.rng.uniform(0.05, 1, count) ** 0.8).astype(int)
    y = np.clip(y, 0, stage.height - 1)
    kept = where[y, x] & (stage.haze[y, x] < 0.2)
    return np.stack([x[kept], y[kept]], axis=1).astype(np.float32)


def _tufts(stage: Stage, where: np.ndarray, count: int) -> list[np.ndarray]:
    lines = []
    for x, y in _spots(stage, where, count):
        size = stage.unit * (1.2 + 3.2 * stage.depth(y))
        for lean in (-0.5, 0.0, 0.55):
            lines.append(np.array([[x, y], [x + lean * 0.4 * size, y - 0.6 * size], [x + lean * size, y - size]]))
    return lines


def _flowers(stage: Stage, where: np.ndarray, surface: np.ndarray) -> None:
    colours = [rgb(text) for text in ("ffffff", "ffe14d", "ff8fb1", "d7a6ff", "ff6b5a")]
    chosen = [colours[stage.rng.integers(len(colours))] for _ in range(2)]
    for number, (x, y) in enumerate(_spots(stage, where, int(stage.rng.integers(0, 60)))):
        radius = stage.unit * (0.35 + 0.65 * stage.depth(y))
        _dot(surface, x, y, radius, chosen[number % 2])


def _dot(surface: np.ndarray, x: float, y: float, radius: float, colour: np.ndarray) -> None:
    """A filled circle, in place, whose edge is soft over one pixel."""
    height, width = surface.shape[:2]
    x0, x1 = max(int(x - radius - 1), 0), min(int(x + radius + 2), width)
    y0, y1 = max(int(y - radius - 1), 0), min(int(y + radius + 2), height)
    away = np.hypot(np.arange(x0, x1)[None, :] - x, np.arange(y0, y1)[:, None] - y)
    patch = surface[y0:y1, x0:x1]
    patch += (colour - patch) * np.clip(radius + 0.5 - away, 0, 1)[..., None].astype(np.float32)
