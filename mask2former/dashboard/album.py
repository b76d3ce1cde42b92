"""Keep the images of an evaluation for browsing: all of a small data set, a sample of a large one."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mask2former.dashboard.gallery import Example
from mask2former.dashboard.marks import CORRECT, NO_KIND, Mark
from mask2former.dashboard.overlay import overlay_png

IMAGES = 300  # of all tasks together
EXAMPLES = 3  # images that a kind of error or a confusion keeps, if there are so many and room for them

Error = tuple[int, int, int]  # (kind, -1, -1) or (NO_KIND, true class, found class)


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


@dataclass(eq=False)
class _Image:
    """An image that may be kept: its key, the errors that it shows, and, once it is kept, its entry."""

    key: bytes
    errors: Mapping[Error, float]
    entry: Entry | None = None


def shown_errors(marks: Iterable[Mark]) -> dict[Error, float]:
    """Return the errors that marks are examples of, kinds of error and confused pairs of classes, and their amounts."""
    amounts: defaultdict[Error, float] = defaultdict(float)
    for mark in marks:
        if mark.kind not in (CORRECT, NO_KIND):
            amounts[mark.kind, -1, -1] += 1
        if mark.true != mark.found:
            amounts[NO_KIND, mark.true, mark.found] += mark.amount
    return dict(amounts)


class Album:
    """Up to ``limit`` images: examples of errors, at most half of them, and a uniform sample.

    Each kind of error keeps ``EXAMPLES`` images, and so do the ``limit // (2 * EXAMPLES)`` largest confusions: not all
    of them, for of 150 classes nearly every image shows one that hardly any other shows. An image's place in the sample
    is drawn by its path, so that it does not matter in which order and in which process it was evaluated.

    Args:
        limit: number of images to keep.
    """

    def __init__(self, limit: int = IMAGES) -> None:
        self.limit = limit
        self.seen = 0
        self._images: list[_Image] = []
        self._amounts: defaultdict[Error, float] = defaultdict(float)
        # Of the last choice, to tell quickly which images would not be chosen:
        self._least_key = b""
        self._least_amount = 0.0
        self._shown: Counter[Error] = Counter()

    @property
    def entries(self) -> list[Entry]:
        """Return the images, examples of errors first: a page that has no room for all shows the first ones."""
        return [one.entry for one in itertools.chain(*self._sorted(self._images)) if one.entry is not None]

    def offer(self, file_name: str, marks: Sequence[Mark], make: Callable[[], Entry]) -> None:
        """Call ``make`` and keep its entry if the image is drawn, or is wanted as an example of an error."""
        one = _Image(hashlib.blake2b(os.fsencode(file_name), digest_size=8).digest(), shown_errors(marks))
        self.seen += 1
        for error, amount in one.errors.items():
            self._amounts[error] += amount
        if len(self._images) < self.limit:
            self._images.append(one)
        elif one.key > self._least_key or any(map(self._lacks, one.errors)):
            self._choose([*self._images, one])
        if one in self._images:
            one.entry = make()

    def take(self, other: Album) -> None:
        """Choose among the images of both albums; the other one may be that of another process."""
        self.seen += other.seen
        for error, amount in other._amounts.items():
            self._amounts[error] += amount
        images = [*self._images, *other._images]
        if len(images) > self.limit:
            self._choose(images)
        else:
            self._images = images

    def _lacks(self, error: Error) -> bool:
        return self._shown[error] < EXAMPLES and self._is_wanted(error)

    def _is_wanted(self, error: Error) -> bool:
        return error[0] != NO_KIND or self._amounts[error] >= self._least_amount

    def _choose(self, images: list[_Image]) -> None:
        """Keep ``limit`` of more images than that."""
        amounts = (amount for error, amount in self._amounts.items() if error[0] == NO_KIND)
        number = max(1, self.limit // (2 * EXAMPLES))
        largest = heapq.nlargest(number, amounts)
        self._least_amount = largest[-1] if len(largest) == number else 0.0
        examples, others = self._sorted(images)
        others = others[: self.limit - len(examples)]
        self._images, self._least_key = examples + others, others[-1].key
        self._shown = Counter(error for one in self._images for error in one.errors if self._is_wanted(error))

    def _sorted(self, images: list[_Image]) -> tuple[list[_Image], list[_Image]]:
        """Return the examples of errors, and the other images; of each the greatest keys first."""
        images = sorted(images, key=lambda one: one.key, reverse=True)
        showing: defaultdict[Error, list[int]] = defaultdict(list)
        for place, one in enumerate(images):
            for error in filter(self._is_wanted, one.errors):
                showing[error].append(place)
        chosen: set[int] = set()
        # Of equal confusions those come first that images of great keys show, which are in the sample anyhow.
        for error in sorted(showing, key=lambda error: (error[0] == NO_KIND, -self._amounts[error], showing[error])):
            places = showing[error]
            lacking = min(EXAMPLES - sum(place in chosen for place in places), self.limit // 2 - len(chosen))
            chosen.update([place for place in places if place not in chosen][: max(0, lacking)])
        examples = [one for place, one in enumerate(images) if place in chosen]
        return examples, [one for place, one in enumerate(images) if place not in chosen]
