"""A fault of a run, found before it begins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A fault that was found, and its remedy; ``fatal``: it would end the run."""

    found: str
    remedy: str
    fatal: bool = True


def problem(found: str, remedy: str) -> Problem:
    return Problem(found, remedy)


def warning(found: str, remedy: str) -> Problem:
    return Problem(found, remedy, fatal=False)
