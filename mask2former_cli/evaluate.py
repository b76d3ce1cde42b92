"""The words of ``mask2former evaluate``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import ALIASES, add_launch, add_run
from mask2former_cli.choices import BACKENDS

EXAMPLES = """
examples:
  Published weights on their data set; what `mask2former train` has trained, its best weights:
    %(prog)s --model coco/panoptic/r50
    %(prog)s --model output/quickstart
  A configuration with other weights, test-time augmentation, another output folder:
    %(prog)s --config-file ade20k/semantic/swin --weights model_final.pkl TEST.AUG.ENABLED True OUTPUT_DIR output/b
  Go on with an evaluation that was interrupted: the same command with TEST.RESUME True.

Data sets are in the folder that the environment variable DETECTRON2_DATASETS names ("datasets" by default). Scores and
report.html go to OUTPUT_DIR. Data of your own: mask2former train-custom --eval-only.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser; what it parses has all that a training's has."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Score a model on the data set of its configuration.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--model",
        metavar="MODEL",
        help="name of a published model, or output folder of a training: configuration and weights at once",
    )
    result.add_argument("--weights", metavar="FILE", help="weights to score, in place of the model's: MODEL.WEIGHTS")
    add_run(result)
    add_launch(result)
    result.add_argument("--device", metavar="STR", help="cpu, cuda, cuda:1: MODEL.DEVICE")
    result.add_argument(
        "--backend",
        choices=BACKENDS,
        default="torch",
        help="engine that runs the network, as for predict: see docs/export.md [%(default)s]",
    )
    result.add_argument("--program", metavar="FILE", help="ONNX file of the network for --backend, such as one in int8")
    others = {flag: None for flag in (*ALIASES, "epochs", "imgsz") if flag != "device"}
    result.set_defaults(eval_only=True, slurm=None, overwrite=False, scale_lr=False, **others)
    return result
