"""The result of checks, and the checks of an image file that all of them share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from detectron2.utils.file_io import PathManager
from PIL import Image

# Areas that part small, medium and large objects, in pixels: COCO's.
SMALL, LARGE = 32**2, 96**2
EXIF_ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)


@dataclass
class Tally:
    """What was found of one class: objects by size (of semantic labels: images by what they show of it)."""

    small: int = 0
    medium: int = 0
    large: int = 0
    pixels: int = 0

    @property
    def objects(self) -> int:
        return self.small + self.medium + self.large

    def add(self, area: int) -> None:
        """Count one object of so many pixels."""
        self.pixels += area
        if area < SMALL:
            self.small += 1
        elif area < LARGE:
            self.medium += 1
        else:
            self.large += 1


@dataclass
class Report:
    """Result of the checks.

    Attributes:
        faults: (file, what is wrong, with the id where there is one).
        survived: those of ``faults`` that training gets over, by leaving something out or by believing the mask.
        classes: class name -> what was found of it.
        counts: other numbers, by what they count.
        sizes: (H, W) of each image that could be read.
        objects: image -> areas of its objects, in pixels.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    survived: list[tuple[str, str]] = field(default_factory=list)
    classes: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sizes: list[tuple[int, int]] = field(default_factory=list)
    objects: dict[Hashable, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def stopping(self) -> list[tuple[str, str]]:
        """Those of ``faults`` that end a training."""
        return [fault for fault in self.faults if fault not in self.survived]

    def fault(self, file: str, text: str, survived: bool = False) -> None:
        self.faults.append((file, text))
        if survived:
            self.survived.append((file, text))

    def add(self, name: str, image: Hashable, area: int) -> None:
        """Count one object of class ``name`` and of so many pixels."""
        self.classes[name].add(area)
        self.objects[image].append(area)

    def image_size(self, path: str, decode: bool) -> tuple[int, int] | None:
        """(H, W) of an image file as its EXIF entry turns it; None, and a fault, where it cannot be read.

        Args:
            path: the file.
            decode: read all of it, not its first bytes alone.
        """
        try:
            with PathManager.open(path, "rb") as file, Image.open(file) as image:
                width, height = image.size
                if image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:
                    width, height = height, width
                if decode:
                    image.load()
        except FileNotFoundError:
            self.fault(path, "the image is missing")
        except (OSError, SyntaxError, ValueError) as error:
            self.fault(path, f"the image cannot be read: {error}")
        else:
            self.counts["images"] += 1
            self.sizes.append((height, width))
            return height, width
        return None
