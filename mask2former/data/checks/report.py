"""The result of checks, and the checks of an image file that all of them share."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from mask2former.data.coco.faults import Fault
from mask2former.data.mapper.image_io import file_size

# Areas that part small, medium and large objects, in pixels: COCO's.
SMALL, LARGE = 32**2, 96**2
MISSING = "the image is missing"
ALIKE = 3  # faults that differ in their numbers alone are shown one by one up to so many
MOST_FILES = 100_000  # that are looked through for missing ones


@dataclass
class Tally:
    """What was found of one class: objects by size (of semantic labels: images by what they show of it), and crowds."""

    small: int = 0
    medium: int = 0
    large: int = 0
    pixels: int = 0
    crowds: int = 0

    @property
    def objects(self) -> int:
        return self.small + self.medium + self.large

    @property
    def crowd_share(self) -> float:
        return self.crowds / max(1, self.crowds + self.objects)

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
    """Result of the checks; a :class:`~mask2former.data.coco.faults.Sink` that keeps all faults.

    Attributes:
        image_root: folder of the images.
        faults: all that is wrong.
        classes: class name -> what was found of it.
        counts: other numbers, by what they count.
        sizes: (H, W) of each image that could be read.
        objects: image -> areas of its objects, in pixels.
    """

    image_root: str = ""
    faults: list[Fault] = field(default_factory=list)
    classes: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sizes: list[tuple[int, int]] = field(default_factory=list)
    objects: dict[Hashable, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def survived(self) -> list[Fault]:
        """Those of ``faults`` that training gets over."""
        return [fault for fault in self.faults if fault.survived]

    @property
    def stopping(self) -> list[Fault]:
        """Those of ``faults`` that end a training."""
        return [fault for fault in self.faults if not fault.survived]

    def fault(self, file: str, text: str, survived: bool = False) -> None:
        self.faults.append(Fault(file, text, survived))

    def left_out(self, what: str) -> None:
        self.counts[what] += 1

    def add(self, name: str, image: Hashable, area: int) -> None:
        """Count one object of class ``name`` and of so many pixels."""
        self.classes[name].add(area)
        self.objects[image].append(area)

    def crowd(self, name: str) -> None:
        """Count one crowd of class ``name``."""
        self.classes[name].crowds += 1
        self.counts["crowds"] += 1

    def image_size(self, path: str, decode: bool) -> tuple[int, int] | None:
        """(H, W) of an image file as its EXIF entry turns it; None, and a fault, where training could not read it.

        Args:
            path: the file.
            decode: read all of it, see :func:`file_size`.
        """
        try:
            size = file_size(path, decode)
        except FileNotFoundError:
            self.fault(path, MISSING)
        except ValueError as error:
            self.fault(path, str(error).removeprefix(f"{path}: "))
        else:
            self.counts["images"] += 1
            self.sizes.append(size)
            return size
        return None

    def lines(self, faults: Iterable[Fault]) -> list[str]:
        """Faults as lines of text: of many that differ in their numbers and names alone, the first and their count."""
        groups: dict[tuple[str, str], list[Fault]] = defaultdict(list)
        for fault in faults:
            kind = re.sub(r"'[^']*'|\d+(\.\d+)?", "#", fault.text)
            groups[os.path.dirname(fault.file), kind].append(fault)
        lines = []
        for group in groups.values():
            file, text, _ = group[0]
            if len(group) <= ALIKE:
                lines += [f"{file}: {text}" for file, text, _ in group]
            else:
                lines.append(f"{file}: {text} (and {len(group) - 1:,} more of this kind)")
            if text == MISSING and (place := self._found_in({os.path.basename(fault.file) for fault in group})):
                lines[-1] += f"; all {len(group):,} are found in {place}"
        return lines

    def _found_in(self, names: set[str]) -> str | None:
        """The folder at, below or beside the images' one that holds all these files."""
        seen = 0
        for root in (self.image_root, os.path.dirname(os.path.abspath(self.image_root))):
            for folder, _, files in os.walk(root):
                seen += 1 + len(files)
                if seen > MOST_FILES:
                    return None
                if names.issubset(files):
                    return folder
        return None
