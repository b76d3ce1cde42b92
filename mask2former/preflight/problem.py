"""One thing that is wrong with a run before it has begun."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What was found, and what to do; ``fatal``: the run would end because of it."""

    found: str
    remedy: str
    fatal: bool = True


def problem(found: str, remedy: str) -> Problem:
    return Problem(found, remedy)


def warning(found: str, remedy: str) -> Problem:
    return Problem(found, remedy, fatal=False)
