"""Write names of classes where they can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mask2former.visualization.regions import ImageArray

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom
LETTER = 13  # height in pixels, in an image whose shorter side has 480
OPACITY = 0.8
MOST_COVERED = 0.1  # share of the image; labels that would cover more are left out


@dataclass(frozen=True)
class Label:
    """A line of text for a region.

    Attributes:
        text: one line.
        place: (x, y), the best place for its middle.
        box: box around the region; the label may also stand above or below it.
        colour: the region's, [3], 0 to 255, RGB.
    """

    text: str
    place: tuple[int, int]
    box: Rectangle
    colour: np.ndarray


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Matplotlib's font, since Detectron2 needs Matplotlib anyway and Pillow's own font has fewer letters."""
    import matplotlib  # takes a second, which a run without labels saves

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)


def write_labels(image: ImageArray, labels: Sequence[Label]) -> ImageArray:
    """Write the labels over an image. Labels do not overlap: later ones that find no place are left out."""
    height, width = image.shape[:2]
    size = letter_size(image)
    letters, pad = font(size), size // 4
    layer = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(layer)
    taken: list[Rectangle] = []
    for label in labels:
        left, _, right, _ = letters.getbbox(label.text)
        extent = (int(right - left) + 2 * pad, size + 2 * pad)
        spot = _free_spot(label, extent, (width, height), taken)
        if spot is None:
            continue
        taken.append(spot)
        ink = "black" if brightness(label.colour) > 140 else "white"
        fill = (*(int(value) for value in label.colour), round(255 * OPACITY))
        draw.rounded_rectangle(spot, radius=pad, fill=fill)
        draw.text((spot[0] + pad - left, (spot[1] + spot[3]) / 2), label.text, font=letters, fill=ink, anchor="lm")
    if not taken:
        return image
    base = Image.fromarray(image).convert("RGBA")
    return np.array(Image.alpha_composite(base, layer).convert("RGB"))


def letter_size(image: ImageArray) -> int:
    """Return the height of letters in pixels, which grows with the image's shorter side; at least 11, to be read."""
    return max(11, round(LETTER * (min(image.shape[:2]) / 480) ** 0.8))


def brightness(colour: np.ndarray) -> float:
    """Return the perceived brightness of a colour, 0 to 255 (luma of ITU-R BT.601)."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


def _free_spot(
    label: Label, size: tuple[int, int], image: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle | None:
    """Find a place where the label covers no other; None if there is none, or labels cover enough already."""
    covered = sum((other[2] - other[0]) * (other[3] - other[1]) for other in taken) + size[0] * size[1]
    if taken and covered > MOST_COVERED * image[0] * image[1]:
        return None
    left, top, right, bottom = label.box
    middle = ((left + right) // 2, (top + bottom) // 2)
    fits = size[0] <= right - left and size[1] <= bottom - top
    above, below = (middle[0], top - size[1] // 2), (middle[0], bottom + size[1] // 2)
    on_it = [label.place, *((label.place[0], label.place[1] + step * size[1]) for step in (-1, 1))]
    for x, y in (*on_it, above, below) if fits else (above, below, *on_it[:1]):
        spot = _clamp(x - size[0] // 2, y - size[1] // 2, size, image)
        if not any(_overlap(spot, other) for other in taken):
            return spot
    return None


def _clamp(left: int, top: int, size: tuple[int, int], image: tuple[int, int]) -> Rectangle:
    left = max(0, min(left, image[0] - size[0]))
    top = max(0, min(top, image[1] - size[1]))
    return left, top, left + size[0], top + size[1]


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
