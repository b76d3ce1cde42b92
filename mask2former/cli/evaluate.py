"""Score a model on the data set of its configuration: ``mask2former evaluate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mask2former.cli import train
from mask2former.predictor.resolve_model import CONFIG, weights_of
from mask2former.zoo import find_model


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    if args.model and args.config_file:
        sys.exit("error: --model names configuration and weights: leave out --config-file.")
    if args.weights and "MODEL.WEIGHTS" in args.opts[::2]:
        sys.exit("error: --weights and MODEL.WEIGHTS set the same: leave one out.")
    weights = args.weights
    if args.model:
        try:
            args.config_file, own = _model(args.model, wants_weights=weights is None)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
        weights = weights or own
    if weights and "MODEL.WEIGHTS" not in args.opts[::2]:
        args.opts = [*args.opts, "MODEL.WEIGHTS", weights]
    return train.run(args)


def _model(model: str, wants_weights: bool) -> tuple[str, str]:
    """Return the configuration file and the weights of an output folder or a published model."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder / CONFIG), weights_of(folder) if wants_weights else ""
    if (published := find_model(model)) is not None:
        return str(published.config_file()), published.name
    raise ValueError(f"{model}: neither the output folder of a training nor a name of `mask2former zoo`.")
