"""Score a model on the data set of its configuration: ``mask2former evaluate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
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
            args.config_file, own = model_files(args.model, wants_weights=weights is None)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
        weights = weights or own
        args.opts = [*args.opts, *output_settings(args.model, args.opts)]
    if weights and "MODEL.WEIGHTS" not in args.opts[::2]:
        args.opts = [*args.opts, "MODEL.WEIGHTS", weights]
    return train.run(args)


def model_files(model: str, wants_weights: bool) -> tuple[str, str]:
    """Return the configuration file and the weights of an output folder or a published model.

    Args:
        model: folder or name.
        wants_weights: look for a folder's weights; else they are "".

    Raises:
        ValueError: there is no such model, or its weights are damaged.
        FileNotFoundError: the folder has no weights.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder / CONFIG), weights_of(folder) if wants_weights else ""
    if (published := find_model(model)) is not None:
        return str(published.config_file()), published.name
    raise ValueError(f"{model}: neither the output folder of a training nor a name of `mask2former zoo`.")


def output_settings(model: str, opts: Sequence[str]) -> list[str]:
    """Return the setting by which results go to the model's folder, wherever that is now; none for other models."""
    folder = Path(model).expanduser().absolute()  # a name such as "2024" would be read as a number
    return ["OUTPUT_DIR", str(folder)] if folder.is_dir() and "OUTPUT_DIR" not in opts[::2] else []
