"""Colours that stand for classes: label maps of CVAT and Pascal VOC, and masks painted by them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mask2former.custom.folders.folder import read_small
from mask2former.custom.source import DataError
from mask2former.data.images.read import read_image

MOST_BYTES = 1 << 20
MOST_COLOURS = 10_000  # of a mask; flat colours are far fewer
NAMES = ("labelmap.txt", "label_map.txt", "label_colors.txt")
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
BLACK, VOID = 0, 0xE0E0C0  # no object; and VOC's borders of objects (224, 224, 192), which have no class
_LINE = re.compile(r"\s*(?P<name>[^:]+?)\s*:\s*(?:(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3}))?\s*(?::.*)?")


@dataclass(frozen=True)
class LabelColours:
    """The colours of K classes.

    Attributes:
        names: of the classes.
        colours: of each, R * 65536 + G * 256 + B.
        source: where they are from, for messages.
    """

    names: tuple[str, ...]
    colours: tuple[int, ...]
    source: str

    def numbers(self, pixels: np.ndarray, file: str, ignore: int) -> np.ndarray:
        """Return the number of each pixel's class, [H, W] int32.

        Args:
            pixels: [H, W] colours, see :func:`read_colours`.
            file: their file, for messages.
            ignore: number for VOC's borders of objects, unless a class has their colour.

        Raises:
            DataError: a colour that no class has.
        """
        table = {VOID: ignore} | {colour: number for number, colour in enumerate(self.colours)}
        values, places = np.unique(pixels, return_inverse=True)
        unknown = [colour for colour in values.tolist() if colour not in table]
        if unknown:
            share = float(np.isin(pixels, unknown).mean())
            blended = " Are its colours blended, as by JPEG or by resizing?" if len(unknown) > 20 else ""
            raise DataError(
                f"{file}: {len(unknown)} colours, on {share:.2%} of its pixels, are of no class in {self.source}; the "
                f"first is {_triple(unknown[0])}.{blended}"
            )
        return np.array([table[colour] for colour in values.tolist()], np.int32)[places].reshape(pixels.shape)


def find_label_map(*folders: Path) -> Path | None:
    """Return the first label map in the folders, or None."""
    return next((folder / name for folder in folders for name in NAMES if (folder / name).is_file()), None)


def read_label_map(file: Path) -> LabelColours:
    """Read lines ``name:r,g,b::``; where none has a colour, VOC's palette gives them, in their order.

    Raises:
        DataError: a line of another form, a name or a colour twice, or no class.
    """
    names: list[str] = []
    colours: list[int | None] = []
    for number, line in enumerate(read_small(file, MOST_BYTES).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        rgb = [int(value) for value in match.groups()[1:] if value is not None] if match else [256]
        if not match or max(rgb, default=0) > 255:
            raise DataError(f"{file}, line {number}: {line.strip()!r:.80}; a line is name:r,g,b:: with 0 to 255.")
        names.append(match["name"])
        colours.append(rgb[0] << 16 | rgb[1] << 8 | rgb[2] if rgb else None)
    if all(colour is None for colour in colours):
        colours = [voc_colour(number) for number in range(len(names))]
    known = [colour for colour in colours if colour is not None]
    if not names or len(known) < len(names) or len(set(names)) < len(names) or len(set(known)) < len(names):
        raise DataError(f"{file}: it has to have a line for each class, with a name and a colour that no other has.")
    return LabelColours(tuple(names), tuple(known), str(file))


def voc_labels() -> LabelColours:
    """Return Pascal VOC's 21 classes."""
    colours = tuple(voc_colour(number) for number in range(len(VOC_CLASSES)))
    return LabelColours(VOC_CLASSES, colours, "Pascal VOC's classes")


def voc_colour(number: int) -> int:
    """Return colour ``number`` of VOC's palette: three bits of the number give the next lower bit of R, G and B."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (number & 1) << bit
        green |= (number >> 1 & 1) << bit
        blue |= (number >> 2 & 1) << bit
        number >>= 3
    return red << 16 | green << 8 | blue


def read_colours(file: str) -> np.ndarray:
    """Read a mask's colours: [H, W] int32, R * 65536 + G * 256 + B, of palettes too.

    Raises:
        DataError: more than ``MOST_COLOURS`` of them.
    """
    rgb = read_image(file, "RGB").astype(np.int32)
    colours = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    if (number := len(np.unique(colours))) > MOST_COLOURS:
        raise DataError(f"{file}: {number} colours; a mask has one for each class or object, in a format such as png.")
    return colours


def _triple(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255
