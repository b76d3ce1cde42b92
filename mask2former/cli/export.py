"""Write a trained model as a file for torch.export or ONNX: ``mask2former export``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from tabulate import tabulate

import mask2former
from mask2former.cli.export_network import check_words, export_network
from mask2former.config import ConfigError
from mask2former.download import DownloadError
from mask2former.export import BARE, OUTPUTS, ExportedNetwork, ExportError, export, load
from mask2former.export.check import SIZES, Row, compare
from mask2former.predictor import Predictor
from mask2former.predictor.resolve_model import model_config


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        bare = args.results == BARE or args.int8 or bool(args.calibrate)
        if bare:
            check_words(args)
        cfg = model_config(args.model, None, args.opts, args.allow_unsafe_config)
        predictor = Predictor(cfg)
        if bare:
            return export_network(args, predictor)
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
            "shape": ["batch" if results == "logits" else 1, 3, "height", "width"],
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
