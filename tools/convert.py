#!/usr/bin/env python3
"""Convert weights between formats. ``--help`` shows how."""

from __future__ import annotations

import argparse
import sys

from mask2former.checkpoint.formats import TARGETS, convert
from mask2former.checkpoint.weights_io import read, write
from mask2former.zoo import weights_file

EXAMPLES = """
The format of the input is recognised by its names: ours, published (MaskFormer v1 too), Hugging Face's, and backbones
alone: Swin's classifiers, ResNets of torchvision, timm, Detectron2 (R-50.pkl) and Caffe2. The suffix of OUT
chooses the kind of file: .pth, .bin (PyTorch), .pkl (arrays, for Detectron2), .safetensors. Values are not changed.

examples:
  convert.py model_final.pth model.safetensors --to hf
  convert.py coco/panoptic/r50 r50.pth --to ours
  convert.py hf://org/name model.pkl --to published
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    parser = argparse.ArgumentParser(
        description="Convert weights between formats.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="IN", help="file, URL, hf://org/name, or name of a published model")
    parser.add_argument("output", metavar="OUT", help="file to write")
    parser.add_argument("--to", choices=list(TARGETS), required=True, help="format of the parameter names")
    args = parser.parse_args(arguments)
    try:
        state = convert(read(weights_file(args.input))["model"], args.to)
        write(state, args.output, nested=args.to != "hf")
    except (OSError, ValueError, NotImplementedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = sum(value.numel() for value in state.values())
    print(f"{args.output}: {len(state)} tensors, {numbers / 1e6:.1f} million numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
