"""The legend of a drawn image's colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mask2former.visualization.labels import font, letter_size
from mask2former.visualization.regions import ImageArray, Region


def add_legend(drawn: ImageArray, regions: Sequence[Region]) -> ImageArray:
    """Add a strip below the drawn image with colour and name of each class in it, and its number of things.

    Args:
        drawn: image from :func:`mask2former.visualization.draw_regions`.
        regions: the regions that were drawn.
    """
    entries = _entries(regions)
    if not entries:
        return drawn
    swatch = letter_size(drawn)
    letters, gap = font(swatch), swatch // 2
    widths = [swatch + gap + int(letters.getlength(text)) + 2 * gap for text, _ in entries]
    rows = _rows(widths, drawn.shape[1] - 2 * gap)
    line = swatch + gap
    strip = Image.new("RGB", (drawn.shape[1], len(rows) * line + gap), "white")
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x, y = gap, gap + number * line
        for index in row:
            text, colour = entries[index]
            draw.rectangle((x, y, x + swatch, y + swatch), fill=tuple(int(value) for value in colour))
            draw.text((x + swatch + gap, y + swatch / 2), text, font=letters, fill="black", anchor="lm")
            x += widths[index]
    return np.concatenate([drawn, np.array(strip)])


def _entries(regions: Sequence[Region]) -> list[tuple[str, np.ndarray]]:
    """Return (text, colour) of each class: things first, then stuff, each in alphabetical order."""
    found: dict[tuple[bool, str], list[Region]] = {}
    for region in regions:
        if region.mask.any():
            found.setdefault((not region.isthing, region.name), []).append(region)
    entries = []
    for (is_stuff, name), members in sorted(found.items(), key=lambda item: item[0]):
        entries.append((name if is_stuff or len(members) == 1 else f"{name} ({len(members)})", members[0].colour))
    return entries


def _rows(widths: Sequence[int], room: int) -> list[list[int]]:
    """Break entries, by index, into lines no longer than ``room``, unless a single entry is."""
    rows: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        if rows[-1] and used + width > room:
            rows.append([])
            used = 0
        rows[-1].append(index)
        used += width
    return rows
