"""The words of ``mask2former check``."""

from __future__ import annotations

import argparse

from mask2former_cli.choices import MAX_PIXELS

EXAMPLES = """
examples:
  %(prog)s quickstart_train_panoptic
  %(prog)s --coco annotations/instances.json images/
  %(prog)s FOLDER     (of Roboflow, CVAT, labelme, YOLO, Pascal VOC, or colour masks)
  %(prog)s --coco videos.json frames/     (videos in the form of YouTube-VIS are told from the file)

The status is 0 where nothing is wrong, 1 where there are faults, 2 where the data set cannot be checked.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Check a data set: files, sizes, ids, range of labels, empty and doubled masks; count its classes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chosen = result.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", nargs="?", help="registered name, below DETECTRON2_DATASETS or --root; or a folder")
    chosen.add_argument("--coco", nargs=2, metavar=("JSON", "IMAGES"), help="file of objects or tracks, and images")
    result.add_argument("--root", metavar="FOLDER", help="of all data sets [DETECTRON2_DATASETS, or else datasets]")
    result.add_argument("--decode", action="store_true", help="read every image whole, which takes longer")
    result.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="as INPUT.MAX_PIXELS in a training [%(default)s]",
    )
    result.add_argument("--show", type=int, default=100, metavar="N", help="faults listed at most [%(default)s]")
    return result
