"""Write pages for a browser from output folders: ``mask2former report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mask2former.dashboard.compare import write_comparison
from mask2former.dashboard.curves import write_curves
from mask2former.dashboard.runs import Run


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        if args.output:
            args.output.parent.mkdir(parents=True, exist_ok=True)
        runs = [Run(folder) for folder in args.folders]
        if len(runs) > 1:
            page = write_comparison(args.output or Path("compare.html"), runs)
        else:
            (only,) = runs
            page = write_curves(
                args.output or only.folder / "curves.html",
                only.metrics,
                title=only.folder.resolve().name,
                max_iter=only.max_iter,
                batch_size=only.batch_size,
            )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(page)
    return 0
