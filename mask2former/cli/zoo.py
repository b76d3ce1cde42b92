"""List or fetch the published models: ``mask2former zoo``."""

from __future__ import annotations

import argparse

from mask2former import zoo


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    return zoo.main(args.name)
