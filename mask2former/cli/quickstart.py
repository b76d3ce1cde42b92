"""Draw the quickstart's data set, train on it, score, and draw predictions: ``mask2former quickstart``."""

from __future__ import annotations

import argparse
import subprocess
import sys

from mask2former.config import ConfigError, config_path, load_config
from mask2former.data import data_root
from mask2former_cli import run_command

ENDING = """
Scores: above. Report, to open in a browser: {output}/report.html    Curves: {output}/curves.html
Predictions beside the ground truth: {output}/images    Log: {output}/log.txt
Weights: {output}/model_final.pth    Data set: {data}/quickstart
Next: draw on an image of your own choice:
  mask2former predict --model {output} --input {data}/quickstart/images/val/000001.png"""


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        cfg = load_config(config_path(args.config_file), args.opts)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    data = data_root()
    counts = ["--train", str(args.train), "--val", str(args.val)]
    workers = ["--workers", str(args.workers)] if args.workers is not None else []
    # In a process of its own: those that draw are forked, which is cheap and safe only where PyTorch has not begun.
    command = [sys.executable, "-m", "mask2former_shapes.draw", "--root", data, *counts, *workers]
    if status := subprocess.run(command).returncode:
        return status
    configured = ["--config-file", args.config_file]
    overwrite = ["--overwrite"] if args.overwrite else []
    if status := run_command("train", ["--quiet", *configured, *overwrite, *args.opts]):
        return status
    weights = ["MODEL.WEIGHTS", f"{cfg.OUTPUT_DIR}/model_final.pth"]
    if status := run_command("draw", [*configured, "--number", str(args.number), *args.opts, *weights]):
        return status
    print(ENDING.format(output=cfg.OUTPUT_DIR, data=data))
    return 0
