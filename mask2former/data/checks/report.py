"""The result of checks, and the check of an image file that all of them share."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from mask2former.data.coco.faults import Fault
from mask2former.data.images.read import file_size

# COCO's limits between small, medium and large objects: areas in pixels.
SMALL, LARGE = 32**2, 96**2
MISSING = "the image is missing"
PNG_MISSING = "the png is missing"
ALIKE = 3  # up to this many faults that differ only in numbers and names are listed one by one
MOST_FILES = 100_000  # give up the search for missing images after this many files
MANY_CROWDS = 0.2  # share of a class's annotations; COCO has a few percent
MOST_NAMES = 10  # of classes in a line


@dataclass
class Tally:
    """Counts of one class: objects by size, and crowds. In semantic labels, an image's pixels of it are one object."""

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
        """Count one object of ``area`` pixels."""
        self.pixels += area
        if area < SMALL:
            self.small += 1
        elif area < LARGE:
            self.medium += 1
        else:
            self.large += 1


@dataclass
class Report:
    """The result of the checks; a :class:`~mask2former.data.coco.faults.Sink` that keeps all faults.

    Attributes:
        image_root: folder of the images.
        faults: all faults.
        names: names of the classes that the data declare, with objects or without.
        classes: class name -> counts of its objects.
        counts: other counts, by what they count.
        sizes: (H, W) of each readable image.
        objects: image -> areas of its objects, in pixels.
        shown: class name -> ids of the images, or videos, with an object of it.
        tracks: class name -> number of its tracks in videos, crowds left out.
        of_videos: video -> numbers of its frames and of its tracks, crowds left out.
    """

    image_root: str = ""
    faults: list[Fault] = field(default_factory=list)
    names: tuple[str, ...] = ()
    classes: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sizes: list[tuple[int, int]] = field(default_factory=list)
    objects: dict[Hashable, list[int]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[str, set[Hashable]] = field(default_factory=lambda: defaultdict(set))
    tracks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    of_videos: dict[Hashable, tuple[int, int]] = field(default_factory=dict)

    @property
    def survived(self) -> list[Fault]:
        """The ``faults`` that training survives."""
        return [fault for fault in self.faults if fault.survived]

    @property
    def stopping(self) -> list[Fault]:
        """The ``faults`` that stop a training."""
        return [fault for fault in self.faults if not fault.survived]

    def remarks(self) -> list[str]:
        """Return what is no fault but worth a look: classes that nothing shows, and classes of many crowds."""
        found = []
        # A class of crowds alone is in the second line.
        tallies = {name: self.classes[name] for name in self.names}  # tables have classes of no object too
        unseen = [name for name, tally in tallies.items() if not (tally.objects or tally.crowds)]
        if unseen and self.sizes:
            found.append(f"no {'frame' if 'videos' in self.counts else 'image'} shows {listed(unseen)}.")
        shares = {name: tally.crowd_share for name, tally in tallies.items()}
        if most := [f"{name} ({share:.0%})" for name, share in shares.items() if share > MANY_CROWDS]:
            found.append(
                f"a large share of these classes is marked as crowds (iscrowd 1): {listed(most)}. Crowds are neither "
                "learnt nor scored; some tools set the flag on every mask that they write as run lengths."
            )
        return found

    def fault(self, file: str, text: str, survived: bool = False) -> None:
        self.faults.append(Fault(file, text, survived))

    def left_out(self, what: str) -> None:
        self.counts[what] += 1

    def add(self, name: str, image: Hashable, area: int, video: Hashable = None) -> None:
        """Count one object of class ``name`` and ``area`` pixels, in an image or in a frame of a video."""
        self.classes[name].add(area)
        self.objects[image].append(area)
        self.shown[name].add(image if video is None else video)

    def crowd(self, name: str) -> None:
        """Count one crowd of class ``name``."""
        self.classes[name].crowds += 1
        self.counts["crowds"] += 1

    def image_size(self, path: str, decode: bool) -> tuple[int, int] | None:
        """Return (H, W) of an image file, turned as its EXIF entry says; None, and add a fault, if it is unreadable.

        Args:
            path: the file.
            decode: decode all of it, see :func:`file_size`.
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
        """Return faults as lines of text; for many that differ only in numbers and names, the first and their count."""
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
            missing = text.endswith((MISSING, PNG_MISSING)) and len({fault.file for fault in group}) == len(group)
            if missing and (place := self._found_in({os.path.basename(fault.file) for fault in group})):
                lines[-1] += f"; all {len(group):,} are found in {place}"
        return lines

    def _found_in(self, names: set[str]) -> str | None:
        """Return the folder at, below or beside the images' folder that holds all these files; None if none does."""
        seen = 0
        for root in (self.image_root, os.path.dirname(os.path.abspath(self.image_root))):
            for folder, _, files in os.walk(root):
                seen += 1 + len(files)
                if seen > MOST_FILES:
                    return None
                if names.issubset(files):
                    return folder
        return None


def listed(names: list[str]) -> str:
    """Return names as a part of a sentence, the first ten of many."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
