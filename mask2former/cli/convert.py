"""Convert weights between formats: ``mask2former convert``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mask2former.checkpoint.differences import add_differences
from mask2former.checkpoint.formats import convert
from mask2former.checkpoint.timm_form import call_of
from mask2former.checkpoint.weights_io import read, write
from mask2former.huggingface import push_to_hub, write_folder
from mask2former.predictor.resolve_model import weights_of
from mask2former.zoo import weights_file


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        if args.push and (args.to != "hf" or Path(args.output).suffix):
            raise ValueError("--push uploads a folder: give --to hf, and an OUT without a suffix.")
        if args.base and not Path(args.output).suffix:
            raise ValueError("--base adds up the weights of one file: give OUT a suffix, such as .pth.")
        if args.to == "hf" and not Path(args.output).suffix:
            print(write_folder(args.input, args.output, name=args.push, license=args.license))
            if args.push:
                print(push_to_hub(args.input, args.push, license=args.license))
            return 0
        folder = Path(args.input).expanduser()
        weights = read(weights_of(folder) if folder.is_dir() else weights_file(args.input))["model"]
        if args.base:
            weights, alone = add_differences(weights, read(weights_file(args.base))["model"])
            if alone:
                print(f"{args.base} lacks these, so that they are as in {args.input}: {', '.join(alone)}")
        state = convert(weights, args.to)
        write(state, args.output, nested=args.to not in ("hf", "timm"))
    except (OSError, ValueError, NotImplementedError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = sum(value.numel() for value in state.values())
    print(f"{args.output}: {len(state)} tensors, {numbers / 1e6:.1f} million numbers")
    if args.to == "timm":
        print(f"loads by load_state_dict in {call_of(state)}")
    return 0
