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


def check_words(args: argparse.Namespace) -> None:
    """Refuse words that do not go together with an ExportError, before a model is built."""
    if Path(args.output).suffix != ".onnx":
        raise ExportError(f"{args.output}: a network for backends is an ONNX file; name one that ends in .onnx.")
    if args.results not in (BARE, "logits"):
        raise ExportError(f"--int8 is for --results {BARE}; found {args.results}.")
    if args.int8 != bool(args.calibrate):
        raise ExportError("--int8 needs --calibrate IMAGES, and --calibrate is for --int8 alone.")
    if args.calibration_images < 1:
        raise ExportError(f"--calibration-images is {args.calibration_images}; it has to be at least 1.")
    if args.dtype != "uint8" or args.portable or args.size:
        raise ExportError(
            "--dtype, --portable and --size are not for a network, whose images are normalised before it."
        )


def export_network(args: argparse.Namespace, predictor: Predictor) -> int:
    """Write the network as the parsed words, which :func:`check_words` has let through, say. Return the exit status.

    Raises:
        ExportError, ValueError, OSError: what the export raises.
    """
    images = find_images(args.calibrate) if args.int8 else []
    network = BareNetwork(predictor.model)
    start = time.perf_counter()
    if not args.int8:
        export(network, args.output, network_metadata(network), dtype="float32")
        _say(args.output, start)
        return 0
    count = min(args.calibration_images, len(images))
    chosen = [images[place * len(images) // count] for place in range(count)]  # of the whole folder
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
    """Yield images as the network sees them, float32 [1, 3, H, W]."""
    for file in files:
        yield predictor.padded(file).cpu().numpy()


def _say(file: str, start: float) -> None:
    print(f"{file}: {Path(file).stat().st_size / 1e6:.1f} MB, written in {time.perf_counter() - start:.0f} s")
