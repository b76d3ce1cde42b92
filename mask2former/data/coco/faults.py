"""Faults of annotation files, and the sinks that decide what happens when one is found."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

logger = logging.getLogger(__name__)


class Fault(NamedTuple):
    """One fault.

    Attributes:
        file: path of the file that has it.
        text: what is wrong, with the id where there is one.
        survived: training goes on, by leaving something out or by trusting the mask.
    """

    file: str
    text: str
    survived: bool = False


class Sink(Protocol):
    """The receiver of a reader's faults. If :meth:`fault` returns, the reader leaves the entry out and goes on."""

    def fault(self, file: str, text: str, survived: bool = False) -> None: ...

    def left_out(self, what: str) -> None:
        """Count one entry of a kind (``what``, a plural) that is left out although it is not a fault."""


@dataclass
class FirstFault:
    """A sink that raises at the first fault that would stop a training.

    Attributes:
        error: class of the exception.
        remedy: sentence that ends its message.
        counts: number of entries that were left out, by kind.
        doubts: number of faults that a training survives.
        first_doubt: the first of them.
    """

    error: type[Exception] = ValueError
    remedy: str = "`mask2former check` lists all faults."
    counts: Counter[str] = field(default_factory=Counter)
    doubts: int = 0
    first_doubt: str = ""

    def fault(self, file: str, text: str, survived: bool = False) -> None:
        if not survived:
            end = "" if text.endswith((".", "?", "!")) else "."
            raise self.error(f"{file}: {text}{end} {self.remedy}".rstrip())
        self.doubts += 1
        self.first_doubt = self.first_doubt or text

    def left_out(self, what: str) -> None:
        self.counts[what] += 1

    def log(self, file: str) -> None:
        """Log what was left out or replaced."""
        for what, number in self.counts.items():
            logger.warning("%s: %d %s are left out.", file, number, what)
        if self.doubts:
            logger.warning("%s: %d faults that masks make up for, the first: %s.", file, self.doubts, self.first_doubt)
