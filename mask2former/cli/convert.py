"""Convert weights between formats: ``mask2former convert``."""

from __future__ import annotations

import argparse
import sys

from mask2former.checkpoint.formats import convert
from mask2former.checkpoint.weights_io import read, write
from mask2former.zoo import weights_file


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        state = convert(read(weights_file(args.input))["model"], args.to)
        write(state, args.output, nested=args.to != "hf")
    except (OSError, ValueError, NotImplementedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = sum(value.numel() for value in state.values())
    print(f"{args.output}: {len(state)} tensors, {numbers / 1e6:.1f} million numbers")
    return 0
