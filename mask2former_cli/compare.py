"""The words of ``mask2former compare``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
examples:
  %(prog)s output/first output/second           writes compare.html
  %(prog)s output/* --output comparisons.html
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Write a page for a browser that compares runs: curves, scores, settings that differ.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="OUTPUT_DIR of each run, two or more")
    result.add_argument(
        "--output", type=Path, default=Path("compare.html"), metavar="FILE", help="page to write [%(default)s]"
    )
    return result
