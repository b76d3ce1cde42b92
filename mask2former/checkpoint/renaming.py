"""Renaming of parameters by rules that work in both directions."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

Rule = tuple[str, str]
"""Two spellings of the beginning of a name; ``{}`` stands for a number. The first rule that matches applies."""


def rename(name: str, rules: Sequence[Rule], *, reverse: bool = False) -> str | None:
    """Rename a parameter by the first rule that matches; return None if none does.

    Args:
        name: the parameter's name.
        rules: pairs (theirs, ours).
        reverse: rename from ours to theirs.
    """
    for theirs, ours in rules:
        source, target = (ours, theirs) if reverse else (theirs, ours)
        if match := _pattern(source).match(name):
            return target.format(*match.groups()) + name[match.end() :]
    return None


@functools.cache  # a model has hundreds of names, each compared with every rule
def _pattern(spelling: str) -> re.Pattern[str]:
    return re.compile(re.escape(spelling).replace(r"\{\}", r"(\d+)"))
