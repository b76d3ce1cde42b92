"""Score a model on the data set of its configuration: ``mask2former evaluate``."""

from __future__ import annotations

import argparse
import sys

from mask2former.cli import train
from mask2former.cli.settings import settings_of


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    if args.model and args.config_file:
        sys.exit("error: --model names configuration and weights: leave out --config-file.")
    if args.weights and "MODEL.WEIGHTS" in args.opts[::2]:
        sys.exit("error: --weights and MODEL.WEIGHTS set the same: leave one out.")
    if args.weights:
        args.opts = [*args.opts, "MODEL.WEIGHTS", args.weights]
    if args.model:
        try:
            args.config_file, args.opts = settings_of(args.model, args.opts)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
    return train.run(args)
