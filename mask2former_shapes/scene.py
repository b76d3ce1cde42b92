"""A whole scene: image and ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mask2former_shapes import OVERSAMPLING
from mask2former_shapes.land import LANDSCAPES
from mask2former_shapes.light import TIMES_OF_DAY, rgb, vary
from mask2former_shapes.placing import Thing, place_things
from mask2former_shapes.stage import SKY, STUFF, WATER, Stage
from mask2former_shapes.surfaces import paint_surfaces
from mask2former_shapes.things.kinds import KINDS

LEAST_VISIBLE = 12  # pixels of the finished image; what shows less is left out
LEAST_SHARE = 0.35  # of a thing's pixels that have to be visible


@dataclass
class Scene:
    """A finished image.

    Attributes:
        image: [H, W, 3] uint8, RGB.
        segments: [H, W] int32; index into ``names``.
        names: category of each segment; things after stuff. Every one of them occurs.
        things: number of them; the last ones of ``names``.
    """

    image: np.ndarray
    segments: np.ndarray
    names: list[str]
    things: int


def draw_scene(seed: tuple[int, ...], height: int, width: int) -> Scene:
    """Draw the scene of a seed; the same seed and size give the same scene on every machine.

    Scenes without things, and those in which a kind of stuff would show only some crumbs, are drawn anew.
    """
    attempt = 0
    while True:
        scene = _try_scene(np.random.default_rng((*seed, attempt)), height, width)
        if scene is not None:
            return scene
        attempt += 1


def _try_scene(rng: np.random.Generator, height: int, width: int) -> Scene | None:
    stage = _set_stage(rng, height, width)
    things = place_things(stage)
    segments, things = _hide_crumbs(stage, things)
    present, areas = np.unique(segments, return_counts=True)
    if not things or areas.min() < LEAST_VISIBLE:
        return None
    paint_surfaces(stage)
    for thing in things:
        _shade_ground(stage, thing)
        _put(stage, thing)
    names = [*STUFF, *(thing.name for thing in things)]
    renumber = np.zeros(len(names), np.int32)
    renumber[present] = np.arange(len(present))
    return Scene(_finish(stage, height, width), renumber[segments], [names[i] for i in present], len(things))


def _set_stage(rng: np.random.Generator, height: int, width: int) -> Stage:
    time = TIMES_OF_DAY[rng.integers(len(TIMES_OF_DAY))]
    unit = OVERSAMPLING * min(height, width) / 128
    stage = Stage(rng, time, height * OVERSAMPLING, width * OVERSAMPLING, unit)
    stage.horizon = stage.height * rng.uniform(0.3, 0.5)
    stage.sun = (stage.width * rng.uniform(-0.05, 1.05), stage.horizon * rng.uniform(*time.height))
    top, low = time.sky[rng.integers(len(time.sky))]
    stage.sky_top, stage.sky_low = vary(rng, rgb(top), 0.04), vary(rng, rgb(low), 0.04)
    chances = np.array([chance for _, chance in LANDSCAPES])
    landscape, _ = LANDSCAPES[rng.choice(len(LANDSCAPES), p=chances / chances.sum())]
    landscape(stage)
    return stage


def _window(
    stage: Stage, left: int, top: int, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """(Window of the stage, the same of the patch) of a patch that may stick out of the stage; None: it is outside."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, stage.height), min(left + width, stage.width)
    if y0 >= y1 or x0 >= x1:
        return None
    return np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]


def _place(thing: Thing) -> tuple[int, int]:
    return round(thing.x) + thing.sprite.left, round(thing.y) + thing.sprite.top


def _put(stage: Stage, thing: Thing) -> None:
    windows = _window(stage, *_place(thing), *thing.sprite.mask.shape)
    if windows is not None:
        on_stage, on_patch = windows
        mask = thing.sprite.mask[on_patch]
        stage.colour[on_stage][mask] = thing.sprite.colour[on_patch][mask]


def _hide_crumbs(stage: Stage, things: list[Thing]) -> tuple[np.ndarray, list[Thing]]:
    """([H, W] segment numbers in the finished image: stuff, then things; the things that can be seen)."""
    while True:
        numbers = stage.cover.astype(np.int32)
        whole = []
        for number, thing in enumerate(things, start=len(STUFF)):
            windows = _window(stage, *_place(thing), *thing.sprite.mask.shape)
            whole.append(thing.sprite.mask.sum() / OVERSAMPLING**2)
            if windows is not None:
                numbers[windows[0]][thing.sprite.mask[windows[1]]] = number
        segments = _majority(numbers)
        visible = np.bincount(segments.ravel(), minlength=len(STUFF) + len(things))[len(STUFF) :]
        kept = [
            thing
            for thing, seen, of in zip(things, visible, whole, strict=True)
            if seen >= max(LEAST_VISIBLE, LEAST_SHARE * of)
        ]
        if len(kept) == len(things):
            return segments, things
        things = kept


def _majority(numbers: np.ndarray) -> np.ndarray:
    """Of each block of ``OVERSAMPLING`` squared pixels the number that most of them have (of equals the lowest)."""
    n = OVERSAMPLING
    height, width = numbers.shape[0] // n, numbers.shape[1] // n
    blocks = numbers.reshape(height, n, width, n).transpose(0, 2, 1, 3).reshape(height * width, n * n)
    result = blocks[:, 0].copy()
    mixed = np.flatnonzero((blocks != result[:, None]).any(axis=1))
    several = np.sort(blocks[mixed], axis=1)
    votes = (several[:, :, None] == several[:, None, :]).sum(axis=2)
    result[mixed] = several[np.arange(len(mixed)), votes.argmax(axis=1)]
    return result.reshape(height, width)


def _shade_ground(stage: Stage, thing: Thing) -> None:
    """The shadow of a thing on the ground, or its reflection in the water."""
    mask = thing.sprite.mask
    height, width = mask.shape
    foot = (-thing.sprite.left, -thing.sprite.top)  # in the patch
    if KINDS[thing.name].casts_shadow:
        length = stage.time.shadow
        lean = np.clip((thing.x - stage.sun[0]) / stage.width, -1, 1) * 1.2 * length
        pad = int(height * length * 1.3) + 4
        move = np.array([[1, -lean, pad + lean * foot[1]], [0, -length * 0.6, foot[1] * length * 0.6 + 2]], np.float32)
        patch = cv2.warpAffine(mask.astype(np.uint8) * 255, move, (width + 2 * pad, int(height * length * 0.6) + 8))
        soft = cv2.blur(patch, (2 * round(0.8 * stage.unit) + 1,) * 2).astype(np.float32) / 255
        windows = _window(stage, round(thing.x) - foot[0] - pad, round(thing.y) - 2, *soft.shape)
        if windows is not None:
            ground = (stage.cover[windows[0]] != SKY) & (stage.cover[windows[0]] != WATER)
            dark = 1 - 0.38 * soft[windows[1]] * ground
            stage.colour[windows[0]] *= dark[..., None] ** np.array([1.0, 0.93, 0.75], np.float32)
    elif thing.name == "boat":
        _reflect(stage, thing, foot)


def _reflect(stage: Stage, thing: Thing, foot: tuple[int, int]) -> None:
    height, width = thing.sprite.mask.shape
    rows = np.arange(int(0.55 * height))
    source = np.clip(foot[1] - (rows * 1.6).astype(int), 0, height - 1)
    sway = np.round(np.sin(rows * (2.2 / stage.unit)) * 0.5 * stage.unit).astype(int)
    columns = np.clip(np.arange(width)[None, :] + sway[:, None], 0, width - 1)
    mask = thing.sprite.mask[source[:, None], columns] & (source[:, None] > 0)
    colour = thing.sprite.colour[source[:, None], columns]
    windows = _window(stage, round(thing.x) - foot[0], round(thing.y), *mask.shape)
    if windows is not None:
        fade = 0.45 * np.linspace(1, 0.2, len(rows))[:, None] * mask
        alpha = (fade[windows[1]] * (stage.cover[windows[0]] == WATER)).astype(np.float32)
        patch = stage.colour[windows[0]]
        patch += (colour[windows[1]] * 0.85 - patch) * alpha[..., None]


def _finish(stage: Stage, height: int, width: int) -> np.ndarray:
    """The image at its own size, with the grain of paper."""
    image = cv2.resize(stage.colour, (width, height), interpolation=cv2.INTER_AREA)
    grain = stage.rng.standard_normal((height, width), dtype=np.float32)
    image = image + 0.5 * (0.022 * grain + 0.012 * cv2.GaussianBlur(grain, (0, 0), 1.2) * 3)[..., None]
    image += 0.008 * stage.rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
