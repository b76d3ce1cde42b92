"""Write a page that compares runs: ``mask2former compare``."""

from __future__ import annotations

import argparse
import sys

from mask2former.cli import report


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    if len(args.folders) < 2:
        sys.exit(f"error: one run, {args.folders[0]}, cannot be compared; name another, or use mask2former report.")
    return report.run(args)
