"""The words of ``mask2former quickstart``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_options

EXAMPLES = """
The data set, drawn scenes with ground truth for every task, goes to quickstart/ in the folder that the environment
variable DETECTRON2_DATASETS names ("datasets" by default) and is drawn once. Checkpoints, report.html and images/,
predictions beside the ground truth, go to OUTPUT_DIR. On two CPU cores it takes about ten minutes.

examples:
  %(prog)s
  %(prog)s --config-file quickstart/semantic
  A look at all steps in a minute, with next to no training:
    %(prog)s --train 40 --val 10 --number 4 SOLVER.MAX_ITER 20 OUTPUT_DIR output/look
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Draw a small data set, train on it, score, and draw predictions: all that there is, once.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--config-file",
        default="quickstart/panoptic",
        metavar="FILE",
        help="configuration: the name of one of the quickstart's, or a YAML file [%(default)s]",
    )
    result.add_argument("--train", type=int, default=1200, metavar="N", help="number of training images [%(default)s]")
    result.add_argument("--val", type=int, default=100, metavar="N", help="number of validation images [%(default)s]")
    result.add_argument("--workers", type=int, metavar="N", help="processes that draw the data set [all cores]")
    result.add_argument(
        "--number", type=int, default=24, metavar="N", help="number of predictions to draw [%(default)s]"
    )
    result.add_argument("--overwrite", action="store_true", help="remove an earlier training from the output folder")
    add_options(result)
    return result
