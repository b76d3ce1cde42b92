"""The words of ``mask2former report``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """
An evaluation writes report.html by itself, and a training curves.html while it runs; this writes the curves again.

examples:
  %(prog)s output/first                         writes output/first/curves.html
  %(prog)s output/first output/second           writes compare.html
  %(prog)s output/* --output comparisons.html
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Write pages for a browser from output folders: the curves of a training, or several runs side by "
        "side.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="OUTPUT_DIR of each run")
    result.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="page to write [curves.html in the folder; compare.html for several]",
    )
    return result
