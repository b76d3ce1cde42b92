#!/usr/bin/env python3
"""List what is wrong with a data set, and what is in it. ``--help`` shows how."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from mask2former.custom.folders import check_folder
from mask2former.data import data_root, register_all
from mask2former.data.checks import Report, check_dataset, check_instances
from mask2former.data.images.limits import MAX_PIXELS, set_max_pixels

EXAMPLES = """
examples:
  check_dataset.py quickstart_train_panoptic
  check_dataset.py --coco annotations/instances.json images/
  check_dataset.py FOLDER     (of Roboflow, CVAT, labelme, YOLO, Pascal VOC, or colour masks)

The status is 0 where nothing is wrong, 1 where there are faults, 2 where the data set cannot be checked.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    parser = argparse.ArgumentParser(
        description="Check a data set: files, sizes, ids, range of labels, empty and doubled masks; count its classes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", nargs="?", help="registered name, below DETECTRON2_DATASETS or --root; or a folder")
    chosen.add_argument("--coco", nargs=2, metavar=("JSON", "IMAGES"), help="a COCO instance file and its images")
    parser.add_argument("--root", default=data_root(), help="[%(default)s]")
    parser.add_argument("--decode", action="store_true", help="read every image whole, which takes longer")
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="as INPUT.MAX_PIXELS in a training [%(default)s]",
    )
    parser.add_argument("--show", type=int, default=100, metavar="N", help="faults listed at most [%(default)s]")
    args = parser.parse_args(arguments)
    try:
        set_max_pixels(args.max_pixels)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if args.coco:
        reports = {"instance": check_instances(*args.coco, decode=args.decode)}
    else:
        register_all(args.root)
        try:
            if Path(args.name).is_dir():
                notes, reports = check_folder(args.name, args.decode)
                print(*notes, sep="\n")
            else:
                reports = check_dataset(args.name, args.decode)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    for task, report in reports.items():
        _print(task, report, args.show)
    faults = sum(len(report.faults) for report in reports.values())
    print(f"{faults} faults" if faults else "no faults")
    return 1 if faults else 0


def _print(task: str, report: Report, show: int) -> None:
    print(f"{task}: " + ", ".join(f"{number} {what}" for what, number in report.counts.items()))
    rows = [
        (name, tally.objects, tally.small, tally.medium, tally.large, tally.pixels, tally.crowds)
        for name, tally in sorted(report.classes.items(), key=lambda item: -item[1].objects)
    ]
    unit = "images" if task.startswith("semantic") else "objects"
    print(tabulate(rows, ["class", unit, "small (< 32^2)", "medium", "large (>= 96^2)", "pixels", "crowds"]))
    lines = report.lines(report.faults)
    for line in lines[:show]:
        print(f"fault: {line}")
    if len(lines) > show:
        print(f"... and {len(lines) - show} more; --show {len(lines)} lists them all")
    print()


if __name__ == "__main__":
    sys.exit(main())
