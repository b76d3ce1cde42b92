#!/usr/bin/env python3
"""Convert weights between formats. ``--help`` shows how."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mask2former.checkpoint.formats import TARGETS, convert
from mask2former.checkpoint.weights_io import read, write
from mask2former.huggingface import push_to_hub, write_folder
from mask2former.zoo import weights_file

EXAMPLES = """
The format of the input is recognised by its names: ours, published (MaskFormer v1 too), Hugging Face's, and backbones
alone: Swin's classifiers, ResNets of torchvision, timm, Detectron2 (R-50.pkl) and Caffe2. The suffix of OUT
chooses the kind of file: .pth, .bin (PyTorch), .pkl (arrays, for Detectron2), .safetensors. Values are not changed.

examples:
  convert.py model_final.pth model.safetensors --to hf
  convert.py coco/panoptic/r50 r50.pth --to ours
  convert.py hf://org/name model.pkl --to published
With --to hf and an OUT without a suffix, a folder is written that Hugging Face's from_pretrained opens (configuration,
image processor, weights and a card with the scores); IN is then the output folder of a training, or a published model:
  convert.py output/mine hf_model --to hf
  convert.py output/mine hf_model --to hf --push org/name
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    parser = argparse.ArgumentParser(
        description="Convert weights between formats.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="IN", help="file, URL, hf://org/name, or name of a published model")
    parser.add_argument("output", metavar="OUT", help="file to write; with --to hf a folder too")
    parser.add_argument("--to", choices=list(TARGETS), required=True, help="format of the parameter names")
    parser.add_argument("--push", metavar="ORG/NAME", help="upload the folder to this repository of the hub too")
    parser.add_argument("--license", metavar="ID", help="of the weights, for the folder's card, such as cc-by-nc-4.0")
    args = parser.parse_args(arguments)
    try:
        if args.push and (args.to != "hf" or Path(args.output).suffix):
            raise ValueError("--push uploads a folder: give --to hf, and an OUT without a suffix.")
        if args.to == "hf" and not Path(args.output).suffix:
            print(write_folder(args.input, args.output, name=args.push, license=args.license))
            if args.push:
                print(push_to_hub(args.input, args.push, license=args.license))
            return 0
        state = convert(read(weights_file(args.input))["model"], args.to)
        write(state, args.output, nested=args.to != "hf")
    except (OSError, ValueError, NotImplementedError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = sum(value.numel() for value in state.values())
    print(f"{args.output}: {len(state)} tensors, {numbers / 1e6:.1f} million numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
