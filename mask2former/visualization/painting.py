"""Paint regions over an image."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np

from mask2former.visualization.labels import Label, write_labels
from mask2former.visualization.regions import ImageArray, Region

MODES = ("overlay", "masks", "contours", "boxes")
LEAST_SIDE = 384  # pixels; images whose shorter side is at most two thirds of it are enlarged to about this
LEAST_LABELLED = 0.002  # share of the image; stuff that covers less gets no label
MOST_SIDE = 4096  # pixels, limit of the longer side when images are enlarged
OPACITY = 0.5
_GOLDEN = 0.618  # multiples of it spread evenly over a circle


def draw_regions(
    image: ImageArray,
    regions: Sequence[Region],
    mode: str = "overlay",
    *,
    names: bool | None = None,
    shades: bool = True,
) -> ImageArray:
    """Paint regions over an image, in the colours of their classes.

    Stuff is painted first, then things, the large ones before the small. Lines and letters grow with the image, and
    outlines are always wide enough to be seen, so that even a tiny object shows.

    Args:
        image: [H, W, 3] uint8, RGB; it is not changed.
        regions: regions of the image's size.
        mode: "overlay": half-transparent colours with outlines; "masks": only the colours, on black; "contours": only
            outlines; "boxes": boxes around the things.
        names: write classes and scores; by default in every mode but "masks".
        shades: let things of one class differ in brightness and hue, which flickers in videos. Those with a track
            always differ, by its number.

    Returns:
        The image, enlarged by a whole factor if it is small.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}.")
    factor = enlargement(image)
    canvas = np.array(_enlarge(image, factor, cv2.INTER_CUBIC)) if mode != "masks" else _black(image, factor)
    width = max(1, round((2 if mode in ("contours", "boxes") else 1.5) * unit(canvas)))
    seen: Counter[str] = Counter()
    labels: list[Label] = []
    for region in sorted(regions, key=lambda region: (region.isthing, -int(region.mask.sum()))):
        box = mask_box(region.mask)
        if box is None or (mode == "boxes" and not region.isthing):
            continue
        shade = seen[region.name] if shades and region.isthing else 0
        if region.track is not None:
            shade = region.track
        seen[region.name] += 1
        colour = _shade(region.colour, shade)
        part = Part(canvas, region.mask, box, factor, width)
        part.paint(mode, colour, region.isthing)
        if region.isthing or region.mask.mean() >= LEAST_LABELLED:
            labels.append(Label(region.label, part.corner if mode == "boxes" else part.widest, part.box, colour))
    if names is None:
        names = mode != "masks"
    return write_labels(canvas, labels) if names else canvas


def unit(image: ImageArray) -> float:
    """Return the width in pixels that looks like one pixel in an image whose shorter side has 480.

    It grows less than in proportion, because people expect finer lines in a larger image.
    """
    return (min(image.shape[:2]) / 480) ** 0.8


def enlargement(image: ImageArray) -> int:
    """Return the whole factor by which an image is enlarged before it is drawn on."""
    short, long = sorted(image.shape[:2])
    return max(1, min(round(LEAST_SIDE / short), MOST_SIDE // long))


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return a mask's box (left, top, right, bottom) in pixels, right and bottom exclusive; None if it is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Part:
    """The part of a canvas around one region, so that painting need not touch the rest.

    Attributes:
        box: box around the region on the canvas: (left, top, right, bottom).
    """

    def __init__(
        self, canvas: ImageArray, mask: np.ndarray, box: tuple[int, int, int, int], factor: int, width: int
    ) -> None:
        margin = -(-width // factor) + 1  # in pixels of the mask, for the outline
        left, top = max(0, box[0] - margin), max(0, box[1] - margin)
        inner = mask[top : box[3] + margin, left : box[2] + margin].astype(np.uint8)
        self.box = (factor * box[0], factor * box[1], factor * box[2], factor * box[3])
        self._origin = (factor * left, factor * top)
        self._mask = _enlarge(inner, factor, cv2.INTER_NEAREST)
        height, breadth = self._mask.shape
        self._canvas = canvas[factor * top : factor * top + height, factor * left : factor * left + breadth]
        self._depth = cv2.distanceTransform(np.pad(self._mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        self._width = width

    @property
    def widest(self) -> tuple[int, int]:
        """The point (x, y) on the canvas where the region is widest, which is always inside it."""
        y, x = np.unravel_index(int(self._depth.argmax()), self._depth.shape)
        return self._origin[0] + int(x), self._origin[1] + int(y)

    @property
    def corner(self) -> tuple[int, int]:
        """The upper left corner (x, y) of the box."""
        return self.box[0], self.box[1]

    def paint(self, mode: str, colour: np.ndarray, isthing: bool) -> None:
        if mode == "boxes":
            return self._paint_box(colour)
        inside = self._mask.astype(bool)
        if mode == "overlay":
            self._canvas[inside] = (self._canvas[inside] * (1 - OPACITY) + colour * OPACITY).astype(np.uint8)
        elif mode == "masks":
            self._canvas[inside] = colour.astype(np.uint8)
        thin = self._depth.max() <= 2 * self._width  # little more than its outline, which must show the colour then
        if mode == "contours" or thin or (mode == "overlay" and not isthing):
            self._paint_outline(colour)
        elif mode == "overlay":
            self._paint_outline(0.35 * colour + 0.65 * 255)

    def _paint_outline(self, colour: np.ndarray) -> None:
        outlines, _ = cv2.findContours(self._mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        drawn = np.ascontiguousarray(self._canvas)
        cv2.drawContours(drawn, outlines, -1, colour.tolist(), self._width, cv2.LINE_AA)
        self._canvas[:] = drawn

    def _paint_box(self, colour: np.ndarray) -> None:
        left, top = (side - start for side, start in zip(self.box[:2], self._origin, strict=True))
        right, bottom = (side - start - 1 for side, start in zip(self.box[2:], self._origin, strict=True))
        drawn = np.ascontiguousarray(self._canvas)
        cv2.rectangle(drawn, (left, top), (right, bottom), colour.tolist(), self._width)
        self._canvas[:] = drawn


def _black(image: ImageArray, factor: int) -> ImageArray:
    height, width = image.shape[:2]
    return np.zeros((factor * height, factor * width, 3), np.uint8)


def _enlarge(image: np.ndarray, factor: int, interpolation: int) -> np.ndarray:
    if factor == 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation)


def _shade(colour: np.ndarray, number: int) -> np.ndarray:
    """Vary lightness and hue of a colour by a number; 0 leaves it unchanged. Return float64 [3]."""
    if not number:
        return colour.astype(np.float64)
    turn, lift = ((_GOLDEN * number) % 1 + 0.5) % 1 - 0.5, ((2 * _GOLDEN * number) % 1 + 0.5) % 1 - 0.5
    hue, lightness, saturation = colorsys.rgb_to_hls(*(colour / 255))
    lightness = np.clip(lightness + 0.4 * lift, 0.2, 0.85)
    return 255 * np.array(colorsys.hls_to_rgb((hue + 0.14 * turn) % 1, lightness, saturation))
