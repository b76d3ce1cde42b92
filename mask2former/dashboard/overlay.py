"""Paint regions as a small transparent image that a page lays over the photo."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from mask2former.visualization import Region

FILL, EDGE = 110, 255  # opacity of a region's inside and of its outline, of 255
MOST_COLOURS = 127  # a palette of 256 holds nothing, and each colour once for the inside and once for the outline
_SHADES = (1.0, 0.75, 0.55)  # things of one class differ in brightness, so that neighbours can be told apart


def overlay_png(regions: Sequence[Region], size: tuple[int, int]) -> bytes:
    """Paint regions, stuff first, then things, the large ones before the small.

    Args:
        regions: regions with masks [H, W].
        size: (H, W) in pixels.

    Returns:
        A PNG file with a palette; transparent where no region is.
    """
    palette: dict[tuple[int, ...], int] = {}
    places = np.zeros(size, np.uint8)
    seen: dict[str, int] = {}
    kernel = np.ones((3, 3), np.uint8)
    for region in sorted(regions, key=lambda region: (region.isthing, -int(region.mask.sum()))):
        number = seen[region.name] = seen.get(region.name, -1) + 1
        shade = _SHADES[number % len(_SHADES)] if region.isthing else 1.0
        colour = tuple(int(channel * shade) for channel in region.colour.tolist())
        place = palette.setdefault(colour, len(palette) % MOST_COLOURS)
        mask = region.mask.astype(np.uint8)
        inner = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        places[mask > 0] = 2 * place + 2
        places[inner > 0] = 2 * place + 1
    return _png(places, list(palette)[:MOST_COLOURS])


def png_uri(file: bytes) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(file).decode()


def _png(places: np.ndarray, colours: Sequence[tuple[int, ...]]) -> bytes:
    image = Image.fromarray(places, "P")
    image.putpalette([0, 0, 0, *(channel for colour in colours for channel in (*colour, *colour))])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes([0, *[FILL, EDGE] * len(colours)]), optimize=True)
    return file.getvalue()
