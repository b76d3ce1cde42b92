"""Paint regions as a small transparent image that a page lays over the photo."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

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
    labels = np.zeros(size, np.uint16)
    palette: dict[tuple[int, ...], int] = {}
    entries = [0]  # of each label, the place of its colour in the file's palette
    seen: dict[str, int] = {}
    areas = [int(np.count_nonzero(region.mask)) for region in regions]
    for i in sorted(range(len(regions)), key=lambda i: (regions[i].isthing, -areas[i])):
        region = regions[i]
        number = seen[region.name] = seen.get(region.name, -1) + 1
        shade = _SHADES[number % len(_SHADES)] if region.isthing else 1.0
        colour = tuple(int(channel * shade) for channel in region.colour.tolist())
        labels[region.mask] = len(entries)
        entries.append(2 * palette.setdefault(colour, len(palette) % MOST_COLOURS) + 1)
    places = np.array(entries, np.uint8)[labels]
    places[_edges(labels) & (labels > 0)] += 1
    return _png(places, list(palette)[:MOST_COLOURS])


def _edges(labels: np.ndarray) -> np.ndarray:
    """Return the pixels [H, W] bool beside which another label is, above, below, to the left or to the right."""
    edges = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differ = labels[one] != labels[other]
        edges[one] |= differ
        edges[other] |= differ
    return edges


def png_uri(file: bytes) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(file).decode()


def _png(places: np.ndarray, colours: Sequence[tuple[int, ...]]) -> bytes:
    image = Image.fromarray(places, "P")
    image.putpalette([0, 0, 0, *(channel for colour in colours for channel in (*colour, *colour))])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes([0, *[FILL, EDGE] * len(colours)]), compress_level=4)
    return file.getvalue()
