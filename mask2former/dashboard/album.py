"""Keep the images of an evaluation for browsing: all of a small data set, a sample of a large one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mask2former.dashboard.gallery import Example
from mask2former.dashboard.marks import CORRECT, NO_KIND, Mark
from mask2former.dashboard.overlay import overlay_png

IMAGES = 300  # of all tasks together
EXAMPLES = 3  # images that each kind of error and each confusion keeps, if there are so many and room for them


@dataclass(frozen=True)
class Entry:
    """One image of one task.

    Attributes:
        file_name: path of the image.
        quality: quality of the prediction, in [0, 1].
        marks: what it shows of each class and error.
        truth, found: PNG files with transparency, to lay over the image.
    """

    file_name: str
    quality: float
    marks: Sequence[Mark]
    truth: bytes
    found: bytes

    @classmethod
    def of(cls, example: Example, marks: Sequence[Mark]) -> Entry:
        """Paint an example."""
        truth, found = (overlay_png(packed.regions(), example.size) for packed in (example.truth, example.found))
        return cls(example.file_name, example.quality, marks, truth, found)


def shown_errors(marks: Iterable[Mark]) -> set[tuple[int, int, int]]:
    """Return the errors that marks are examples of: kinds of error, and confused pairs of classes."""
    kinds = {(mark.kind, -1, -1) for mark in marks if mark.kind not in (CORRECT, NO_KIND)}
    pairs = {(NO_KIND, mark.true, mark.found) for mark in marks if mark.true != mark.found}
    return kinds | pairs


class Album:
    """Up to ``limit`` images: the first ones, then a uniform sample that gives up no rare error.

    Args:
        limit: number of images to keep.
    """

    def __init__(self, limit: int = IMAGES) -> None:
        self.limit = limit
        self.entries: list[Entry] = []
        self.seen = 0
        self._shown: Counter[tuple[int, int, int]] = Counter()
        self._random = random.Random(0)

    def offer(self, marks: Sequence[Mark], make: Callable[[], Entry]) -> None:
        """Call ``make`` and keep its entry if the image is drawn, or shows an error of which there are few examples."""
        self.seen += 1
        errors = shown_errors(marks)
        if len(self.entries) < self.limit:
            self.entries.append(make())
        else:
            place = self._random.randrange(self.seen)
            if any(self._shown[error] < EXAMPLES for error in errors):
                place = next(filter(self._can_go, self._random.sample(range(self.limit), self.limit)), self.limit)
            if place >= self.limit or not self._can_go(place):
                return
            self._shown -= Counter(shown_errors(self.entries[place].marks))
            self.entries[place] = make()
        self._shown += Counter(errors)

    def take(self, other: Album) -> None:
        """Offer the images of another album, such as that of another process."""
        seen = self.seen + other.seen
        for entry in other.entries:
            self.offer(entry.marks, lambda chosen=entry: chosen)  # type: ignore[misc]
        self.seen = seen

    def _can_go(self, place: int) -> bool:
        return all(self._shown[error] > EXAMPLES for error in shown_errors(self.entries[place].marks))
