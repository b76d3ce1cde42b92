"""Write a model's network for a backend, in float32 or in 8 bits: ``mask2former export --results network``."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mask2former.backends.files import network_metadata
from mask2former.export import BARE, BareNetwork, ExportError, export
from mask2former.export.int8 import FLOAT_PARTS, quantise
from mask2former.predictor import Predictor
from mask2former.predictor.load_image import find_images


def export_network(args: argparse.Namespace, predictor: Predictor) -> int:
    """Write the network as the parsed words say. Return the exit status.

    Raises:
        ExportError, ValueError, OSError: words that do not go together, or what the export raises.
    """
    if Path(args.output).suffix != ".onnx":
        raise ExportError(f"{args.output}: a network for backends is an ONNX file; name one that ends in .onnx.")
    if args.results not in (BARE, "logits"):
        raise ExportError(f"--int8 is for --results {BARE}; found {args.results}.")
    if args.int8 != bool(args.calibrate):
        raise ExportError("--int8 needs --calibrate IMAGES, and --calibrate is for --int8 alone.")
    if args.calibration_images < 1:
        raise ExportError(f"--calibration-images is {args.calibration_images}; it has to be at least 1.")
    images = find_images(args.calibrate) if args.int8 else []
    network = BareNetwork(predictor.model)
    start = time.perf_counter()
    if not args.int8:
        export(network, args.output, network_metadata(network), dtype="float32")
        _say(args.output, start)
        return 0
    step = max(1, len(images) // args.calibration_images)
    chosen = images[::step][: args.calibration_images]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "float32.onnx")
        export(network, plain, network_metadata(network), dtype="float32")
        counts = quantise(plain, Path(args.output), _padded(predictor, chosen))
    _say(args.output, start)
    left = counts.pop("float")
    print(f"8 bits: {', '.join(f'{count} {kind}' for kind, count in counts.items())}, scaled on {len(chosen)} images")
    print(f"float32: {left} products, of two activations or of {', '.join(FLOAT_PARTS)}")
    return 0


def _padded(predictor: Predictor, files: list[Path]) -> Iterator[np.ndarray]:
    """Yield images as the network sees them."""
    for file in files:
        yield predictor.padded(file).numpy()


def _say(file: str, start: float) -> None:
    print(f"{file}: {Path(file).stat().st_size / 1e6:.1f} MB, written in {time.perf_counter() - start:.0f} s")
