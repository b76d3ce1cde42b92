"""Renaming of parameters by rules that read the same in both directions."""

from __future__ import annotations

import re
from collections.abc import Sequence

Rule = tuple[str, str]
"""Two spellings of a name's beginning; ``{}`` stands for a number. The first rule that fits applies."""


def rename(name: str, rules: Sequence[Rule], *, reverse: bool = False) -> str | None:
    """Spell ``name`` the other way; None when no rule fits.

    Args:
        name: a parameter's name.
        rules: pairs (theirs, ours).
        reverse: from ours to theirs.
    """
    for theirs, ours in rules:
        source, target = (ours, theirs) if reverse else (theirs, ours)
        pattern = re.escape(source).replace(r"\{\}", r"(\d+)")
        if match := re.match(pattern, name):
            return target.format(*match.groups()) + name[match.end() :]
    return None
