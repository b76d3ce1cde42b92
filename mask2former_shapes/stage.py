"""The canvas of a scene: the image, the owner of each pixel, and the circumstances."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from mask2former_shapes.light import Colour, TimeOfDay, rgb

STUFF = ("sky", "water", "sand", "grass")  # numbers in Stage.cover
SKY, WATER, SAND, GRASS = range(4)


@dataclass
class Stage:
    """A scene in the making.

    Attributes:
        rng: where all chance comes from.
        time: colours.
        height, width: of the drawing, in its pixels.
        unit: pixels of the drawing in 1/128 of the image's shorter side.
        horizon: y of it.
        sun: (x, y), in the sky or beside it.
        sky_top, sky_low: colours.
        colour: [height, width, 3] float32.
        cover: [height, width] uint8, numbers of ``STUFF``.
        haze: [height, width] float32, how far the distance pales a pixel, 0 to 1.
    """

    rng: np.random.Generator
    time: TimeOfDay
    height: int
    width: int
    unit: float
    horizon: float = 0.0
    sun: tuple[float, float] = (0.0, 0.0)
    sky_top: Colour = field(default_factory=lambda: rgb("ffffff"))
    sky_low: Colour = field(default_factory=lambda: rgb("ffffff"))

    def __post_init__(self) -> None:
        self.colour = np.zeros((self.height, self.width, 3), np.float32)
        self.cover = np.zeros((self.height, self.width), np.uint8)
        self.haze = np.zeros((self.height, self.width), np.float32)
        self.x = np.arange(self.width, dtype=np.float32)
        self.y = np.arange(self.height, dtype=np.float32)

    @property
    def tint(self) -> Colour:
        return np.array(self.time.tint, np.float32)

    @property
    def to_light(self) -> tuple[float, float]:
        """Unit vector from a thing in the middle of the scene to the sun."""
        away = np.array([self.sun[0] - self.width / 2, -0.6 * self.height])
        away /= np.linalg.norm(away)
        return float(away[0]), float(away[1])

    def depth(self, y: float) -> float:
        """How near the ground at height y is: 0 at the horizon, 1 at the bottom of the image."""
        return float(np.clip((y - self.horizon) / max(self.height - self.horizon, 1), 0, 1))

    def lay(self, where: np.ndarray, stuff: int, haze: float | np.ndarray = 0.0) -> None:
        """Cover the pixels of a bool mask with a kind of stuff."""
        self.cover[where] = stuff
        self.haze[where] = haze[where] if isinstance(haze, np.ndarray) else haze

    def below(self, curve: np.ndarray | float) -> np.ndarray:
        """[height, width] bool: pixels below a curve of y over x."""
        return self.y[:, None] >= np.broadcast_to(curve, (self.width,))[None, :]

    def reduced(self, by: int) -> Stage:
        """The same scene at a coarser resolution, unpainted; haze is averaged over the ground."""
        small = Stage(
            self.rng,
            self.time,
            self.height // by,
            self.width // by,
            self.unit / by,
            self.horizon / by,
            (self.sun[0] / by, self.sun[1] / by),
            self.sky_top,
            self.sky_low,
        )
        size = (small.width, small.height)
        small.cover = np.ascontiguousarray(self.cover[by // 2 :: by, by // 2 :: by])
        ground = cv2.resize((self.cover != SKY).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        small.haze = cv2.resize(self.haze, size, interpolation=cv2.INTER_AREA) / np.maximum(ground, 1e-3)
        return small

    def strokes(self, lines: list[np.ndarray], thickness: float) -> np.ndarray:
        """[height, width] float32, 0 to 1: polylines [n, 2] of (x, y), so thick in units."""
        layer = np.zeros((self.height, self.width), np.uint8)
        points = [np.round(line * 16).astype(np.int32) for line in lines]
        thick = max(1, round(thickness * self.unit))
        cv2.polylines(layer, points, isClosed=False, color=255, thickness=thick, lineType=cv2.LINE_AA, shift=4)
        return layer.astype(np.float32) / 255
