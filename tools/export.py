#!/usr/bin/env python3
"""Write a trained model as a file for torch.export or ONNX. ``--help`` shows how."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from tabulate import tabulate

import mask2former
from mask2former.config import ConfigError
from mask2former.config.command_line import add_trust
from mask2former.download import DownloadError
from mask2former.export import OUTPUTS, ExportedNetwork, ExportError, export, load
from mask2former.export.check import SIZES, Row, compare
from mask2former.export.programs import DTYPES
from mask2former.predictor import Predictor
from mask2former.predictor.resolve_model import model_config

EXAMPLES = """
The program takes one image [1, 3, H, W] of any size from 33 pixels a side, normalises it itself, and gives results at
the image's size. What goes in and comes out: docs/export.md.

examples:
  export.py coco/panoptic/r50 r50.pt2
  export.py coco/panoptic/r50 r50.onnx --results panoptic
  export.py output/quickstart/panoptic quickstart.onnx --results semantic
  export.py configs/coco/instance/r50.yaml r50.pt2 --results instance --portable --opts MODEL.WEIGHTS model_final.pth
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    args = _parser().parse_args(arguments)
    try:
        cfg = model_config(args.model, None, args.opts, args.allow_unsafe_config)
        predictor = Predictor(cfg)
        network = ExportedNetwork(predictor.model, args.results)
        start = time.perf_counter()
        metadata = describe(cfg, predictor, args.results, args.dtype)
        export(network, args.output, metadata, dtype=args.dtype, portable=args.portable)
        seconds = time.perf_counter() - start
        program, _ = load(args.output)
        sizes = [tuple(size) for size in args.size] if args.size else SIZES
        rows = compare(network, program, dtype=args.dtype, sizes=sizes, repeats=args.repeats)
    except (ConfigError, DownloadError, ExportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{args.output}: {Path(args.output).stat().st_size / 1e6:.1f} MB, written in {seconds:.0f} s; image -> "
        f"{', '.join(OUTPUTS[args.results])}"
    )
    print(table(rows))
    return 0


def describe(cfg: CfgNode, predictor: Predictor, results: str, dtype: str) -> dict[str, Any]:
    """Return the metadata of the file: all that its user needs beside it."""
    model = predictor.model
    return {
        "results": results,
        "outputs": list(OUTPUTS[results]),
        "classes": list(predictor.names),
        "things": sorted(model.post_processing.things),
        "input": {
            "format": cfg.INPUT.FORMAT,
            "dtype": dtype,
            "shape": [1, 3, "height", "width"],
            "shortest_side": cfg.INPUT.MIN_SIZE_TEST,
            "longest_side": cfg.INPUT.MAX_SIZE_TEST,
        },
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
        "size_divisibility": model.size_divisibility,
        "object_mask_threshold": model.post_processing.object_mask_threshold,
        "overlap_threshold": model.post_processing.overlap_threshold,
        "detections_per_image": model.post_processing.detections_per_image,
        "mask2former": mask2former.__version__,
    }


def table(rows: list[Row]) -> str:
    """Return a table of parity and, if it was measured, speed."""
    lines = []
    for row in rows:
        line = [
            f"{row.size[0]} x {row.size[1]}",
            "" if row.difference is None else f"{row.difference:.1e}",
            f"{100 * row.equal_pixels:.3f} %",
        ]
        if row.eager_ms and row.exported_ms:
            line += [f"{row.eager_ms:.0f}", f"{row.exported_ms:.0f}", f"{row.eager_ms / row.exported_ms:.2f}"]
        lines.append(line)
    headers = ["image", "largest difference", "equal pixels", "PyTorch, ms", "exported, ms", "times as fast"]
    return tabulate(lines, headers[: len(lines[0])], disable_numparse=True, stralign="right")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write a trained model as a file for torch.export or ONNX, and compare it with PyTorch.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="name of a published model, configuration file, or output folder"
    )
    parser.add_argument("output", metavar="OUT", help="file to write, .pt2 (torch.export) or .onnx")
    parser.add_argument(
        "--results", choices=list(OUTPUTS), default="logits", help="what the program returns [%(default)s]"
    )
    parser.add_argument("--dtype", choices=list(DTYPES), default="uint8", help="dtype of the image [%(default)s]")
    parser.add_argument(
        "--portable",
        action="store_true",
        help="write a .pt2 of standard operators: runs without mask2former, but slower",
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="number of timed runs; 0: none [%(default)s]"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        action="append",
        metavar=("H", "W"),
        help="image size to compare at; may be repeated",
    )
    add_trust(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration keys to change"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
