#!/usr/bin/env python3
"""Pages for a browser from output folders: the curves of a training, or several runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mask2former.dashboard.compare import write_comparison
from mask2former.dashboard.curves import write_curves
from mask2former.dashboard.runs import Run

EXAMPLES = """
examples:
  dashboard.py output/first                         writes output/first/curves.html
  dashboard.py output/first output/second           writes compare.html
  dashboard.py output/* --output comparisons.html
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="OUTPUT_DIR of each run")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="page to write [curves.html in the folder; compare.html for several]",
    )
    args = parser.parse_args()
    try:
        if args.output:
            args.output.parent.mkdir(parents=True, exist_ok=True)
        runs = [Run(folder) for folder in args.folders]
        if len(runs) > 1:
            page = write_comparison(args.output or Path("compare.html"), runs)
        else:
            (run,) = runs
            page = write_curves(
                args.output or run.folder / "curves.html",
                run.metrics,
                title=run.folder.resolve().name,
                max_iter=run.max_iter,
                batch_size=run.batch_size,
            )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(page)


if __name__ == "__main__":
    main()
