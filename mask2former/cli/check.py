"""List what is wrong with a data set, and what is in it: ``mask2former check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detectron2.data import DatasetCatalog
from tabulate import tabulate

from mask2former.custom.folders import check_folder
from mask2former.data import register_all
from mask2former.data.checks import Report, check_annotations, check_dataset
from mask2former.data.images.limits import set_max_pixels


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        set_max_pixels(args.max_pixels)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if args.coco:
        file, images = args.coco
        reports = {"instance": check_annotations(file, images, decode=args.decode)}
    else:
        register_all(args.root)
        try:
            if Path(args.name).is_dir():
                notes, reports = check_folder(args.name, args.decode)
                print(*notes, sep="\n")
            else:
                reports = check_dataset(args.name, args.decode)
        except ValueError as error:
            where = "" if args.name in DatasetCatalog.list() else f"{args.name}: no such folder. "
            print(f"error: {where}{error}", file=sys.stderr)
            return 2
    for task, report in reports.items():
        _print(task, report, args.show)
    faults = sum(len(report.faults) for report in reports.values())
    print("no faults" if not faults else f"{faults} fault{'s' * (faults > 1)}")
    return 1 if faults else 0


def _print(task: str, report: Report, show: int) -> None:
    of_videos = "videos" in report.counts
    kind = "tracks in videos" if of_videos else task
    print(f"{kind}: " + ", ".join(f"{number} {what}" for what, number in report.counts.items()))
    rows = [
        (
            name,
            *([report.tracks[name]] if of_videos else []),
            *(tally.objects, tally.small, tally.medium, tally.large, tally.pixels, tally.crowds),
        )
        for name, tally in sorted(report.classes.items(), key=lambda item: -item[1].objects)
    ]
    units = ["tracks", "masks"] if of_videos else ["images" if task.startswith("semantic") else "objects"]
    print(tabulate(rows, ["class", *units, "small (< 32^2)", "medium", "large (>= 96^2)", "pixels", "crowds"]))
    for remark in report.remarks():
        print(f"note: {remark}")
    lines = report.lines(report.faults)
    for line in lines[:show]:
        print(f"fault: {line}")
    if len(lines) > show:
        print(f"... and {len(lines) - show} more; --show {len(lines)} lists them all")
    print()
