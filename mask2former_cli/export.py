"""The words of ``mask2former export``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_trust
from mask2former_cli.choices import EXPORT_DTYPES, EXPORTED_RESULTS

EXAMPLES = """
The program takes one image [1, 3, H, W] (logits: a batch of one size) of any size from 33 pixels a side, normalises it
itself, and gives results at the image's size. What goes in and comes out: docs/export.md. A network (--results network)
is for Predictor(backend=...), which normalises and pads; it is not compared with PyTorch here.

examples:
  %(prog)s coco/panoptic/r50 r50.pt2
  %(prog)s coco/panoptic/r50 r50.onnx --results panoptic
  %(prog)s output/quickstart/panoptic quickstart.onnx --results semantic
  %(prog)s output/mine net.onnx --int8 --calibrate datasets/mine/images
  %(prog)s configs/coco/instance/r50.yaml r50.pt2 --results instance --portable --opts MODEL.WEIGHTS model_final.pth
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Write a trained model as a file for torch.export or ONNX, and compare it with PyTorch.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "model", metavar="MODEL", help="name of a published model, configuration file, or output folder"
    )
    result.add_argument("output", metavar="OUT", help="file to write, .pt2 (torch.export) or .onnx")
    result.add_argument(
        "--results", choices=EXPORTED_RESULTS, default="logits", help="what the program returns [%(default)s]"
    )
    result.add_argument("--dtype", choices=EXPORT_DTYPES, default="uint8", help="dtype of the image [%(default)s]")
    result.add_argument(
        "--portable",
        action="store_true",
        help="write a .pt2 of standard operators: runs without mask2former, but slower",
    )
    result.add_argument(
        "--int8",
        action="store_true",
        help="write the network (--results network, .onnx) in 8 bits, for Predictor(backend=..., program=OUT)",
    )
    result.add_argument(
        "--calibrate",
        metavar="IMAGES",
        help="for --int8: folder or quoted glob of images like those that the model will see, of which it takes a few "
        "dozen at equal distances",
    )
    result.add_argument(
        "--calibration-images", type=int, default=24, metavar="N", help="for --int8: how many of them [%(default)s]"
    )
    result.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="number of timed runs; 0: none [%(default)s]"
    )
    result.add_argument(
        "--size",
        type=int,
        nargs=2,
        action="append",
        metavar=("H", "W"),
        help="image size to compare at; may be repeated",
    )
    add_trust(result)
    result.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration keys to change"
    )
    return result
