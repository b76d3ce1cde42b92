"""Give the mark of the tests of `make torture`, and how many examples a property is tried with."""

from __future__ import annotations

import os

import pytest

TORTURE = [pytest.mark.slow, pytest.mark.torture]


def examples(usual: int) -> int:
    """Return how many examples hypothesis draws: ``usual``, or TORTURE_EXAMPLES of the environment if that is more."""
    return max(usual, int(os.environ.get("TORTURE_EXAMPLES", "0")))
