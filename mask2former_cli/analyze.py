"""The words of ``mask2former analyze``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_config_file, add_options, add_trust

EXAMPLES = """
One FLOP is one multiplication with its addition, as fvcore counts and as papers on detection report. Published numbers
are of COCO panoptic models, averaged over images of COCO whose short side is 800 pixels; one of 800x1067 (4:3) is
analysed here. "results" is what follows the network; for panoptic and instance results it depends on what is found.
Element-wise functions, comparisons and copies are free; an operator that is neither free nor counted is named.

On the device "meta" nothing is computed, which takes seconds: the network's products, convolutions and deformable
attention are counted, with all masks at its own size, but not normalisation, resizing and other softmax, nor what
follows the network; there are no times.

examples:
  %(prog)s --config-file coco/panoptic/r50 MODEL.DEVICE cpu
  %(prog)s --config-file coco/panoptic/swin_large_in21k MODEL.DEVICE meta
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Count parameters, FLOPs, activations and time of a model by part, beside published ones.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_file(result)
    result.add_argument(
        "--size", type=int, nargs=2, default=(800, 1067), metavar=("H", "W"), help="image size in pixels [800 1067]"
    )
    result.add_argument("--repeats", type=int, default=3, metavar="N", help="number of timed passes [%(default)s]")
    add_trust(result)
    add_options(result)
    return result
