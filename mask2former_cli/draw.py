"""The words of ``mask2former draw``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_config_file, add_options, add_trust
from mask2former_cli.choices import INSTANCE_THRESHOLD, TASKS

EXAMPLES = """
examples:
  %(prog)s --model output/mine
  %(prog)s --config-file quickstart/panoptic --number 24 MODEL.WEIGHTS output/quickstart/panoptic/model_final.pth
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Draw a model's predictions over the images of a data set, beside the ground truth.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="MODEL", help="output folder of a training, or name of a published model")
    add_config_file(source, required=False)
    result.add_argument("--dataset", metavar="NAME", help="registered data set [the first of DATASETS.TEST]")
    result.add_argument(
        "--number",
        type=int,
        default=24,
        metavar="N",
        help="number of images, evenly spread over the data set [%(default)s]",
    )
    result.add_argument("--task", choices=TASKS, help="task to draw [the first of the model]")
    result.add_argument(
        "--threshold", type=float, default=INSTANCE_THRESHOLD, help="lowest score of drawn instances [%(default)s]"
    )
    result.add_argument("--output", metavar="FOLDER", help="folder to write to [OUTPUT_DIR/images]")
    add_trust(result)
    add_options(result)
    return result
