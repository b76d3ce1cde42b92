"""The words of ``mask2former benchmark``."""

from __future__ import annotations

import argparse
import re

from mask2former_cli.arguments import add_trust, positive
from mask2former_cli.choices import BACKENDS, DEFAULT_MODEL, TASKS

EXAMPLES = """
Measured is what the predictor does with images that are in memory: resizing, the network, and its results as arrays of
the image's size; not reading files, drawing or loading the model. All rows take turns, after one round that does not
count.

  latency ms    median time of a call with the row's batch of images
  spread ms     half of the distance between the quartiles
  images/s      images of a call by its median time
  peak MiB      memory beyond the weights, of a batch of the largest image; on a CPU, of its own process (Linux)

Random images hold few objects, and what follows the network takes longer for many: give images of your own.

examples:
  %(prog)s --model output/mine --images photos/
  %(prog)s --model coco/panoptic/r50 --size 480x640 --batch 1 2 4 --device cuda --dtype float32 bfloat16
  %(prog)s --model output/mine --images photos/ --backend torch onnxruntime --threads 2 --json speed.json
  %(prog)s --model config.yaml --opts MODEL.WEIGHTS model_final.pth
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Measure how fast a model is on this machine, and how much memory it takes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add(
        "--model",
        metavar="MODEL",
        help="name of a published model, output folder of a training, or configuration file (give its weights by "
        f"--opts MODEL.WEIGHTS FILE) [{DEFAULT_MODEL}]",
    )
    what = result.add_mutually_exclusive_group()
    what.add_argument("--images", metavar="FOLDER", help="an image, a folder or a quoted glob of images")
    what.add_argument(
        "--size", type=_size, default=(480, 640), metavar="HxW", help="pixels of random images instead [480x640]"
    )
    add("--batch", type=positive, nargs="+", default=[1], metavar="N", help="images of a call [1]")
    add("--dtype", choices=["float32", "bfloat16", "float16"], nargs="+", default=["float32"], help="[float32]")
    add("--backend", choices=BACKENDS, nargs="+", default=["torch"], help="engines that run the network [torch]")
    add("--task", choices=TASKS, help="results that are made [the model's first task]")
    add("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 [the configuration's, or cpu if there is no GPU]")
    add("--threads", type=positive, metavar="N", help="threads of the CPU [PyTorch's choice]")
    add("--rounds", type=positive, metavar="N", help="calls of each row [3 at least, and 5 seconds of each]")
    add("--no-memory", action="store_true", help="leave out peak memory, for which CPUs load the model again")
    add("--json", metavar="FILE", help="write all numbers, in seconds and bytes, and the machine")
    add_trust(result)
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration keys to change")
    return result


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no size: give height and width in pixels, such as 480x640")
    return int(found[1]), int(found[2])
