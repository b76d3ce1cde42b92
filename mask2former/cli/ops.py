"""Say which operators are compiled here: ``mask2former ops``."""

from __future__ import annotations

import argparse

from mask2former.ops import __main__ as ops


def run(args: argparse.Namespace) -> int:
    """Run the command. Return its exit status."""
    ops.main()
    return 0
