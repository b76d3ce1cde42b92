#!/usr/bin/env python3
"""Measure how much a model with a mask encoder improves coarse masks. ``--help`` shows how."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from tabulate import tabulate
from tqdm import tqdm

from mask2former.config import ConfigError, load_config
from mask2former.data.guide import KINDS, coarse_mask
from mask2former.data.mapper import Mapper
from mask2former.predictor import Predictor
from mask2former_cli.arguments import add_options, add_trust

EXAMPLE = """
Of objects of the data set, chosen at random (the same ones for a seed), each kind of coarse mask is drawn and given to
the model with the image. The table has the mean IoU with the true mask, before and after; "truth" is the true mask
itself, which a model should leave as it is.

example:
  evaluate_guided.py --config-file configs/quickstart/guided.yaml --output output/quickstart/guided/guided.json \\
      MODEL.WEIGHTS output/quickstart/guided/model_final.pth
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command; ``arguments`` are those after its name."""
    args = _parser().parse_args(arguments)
    try:
        cfg = load_config(args.config_file, args.opts, args.allow_unsafe_config)
        scores, count = measure(cfg, args)
    except (ConfigError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    rows = [[kind, *(f"{one:.1f}" for one in pair), f"{pair[1] - pair[0]:+.1f}"] for kind, pair in scores.items()]
    print(f"Mean IoU in percent of {count} objects of {cfg.DATASETS.TEST[0]}:")
    print(tabulate(rows, headers=["coarse mask", "before", "after", "gain"], tablefmt="github", disable_numparse=True))
    if args.output:
        facts = {"weights": cfg.MODEL.WEIGHTS, "data": cfg.DATASETS.TEST[0], "objects": count, "seed": args.seed}
        found = {kind: {"before": before, "after": after} for kind, (before, after) in scores.items()}
        Path(args.output).write_text(json.dumps({**facts, "mean_iou": found}, indent=1) + "\n")


def measure(cfg: Any, args: argparse.Namespace) -> tuple[dict[str, tuple[float, float]], int]:
    """Return the mean IoU before and after, in percent, of each kind of coarse mask; and the number of objects."""
    predictor = Predictor(cfg)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in (*(args.kinds or KINDS), "truth")}
    chosen = objects(cfg, args.objects, args.per_image, args.least, args.seed)
    for number, (file, mask) in enumerate(tqdm(chosen, total=args.objects, unit="object", disable=None)):
        rng = np.random.default_rng([args.seed, number])
        for kind, pairs in found.items():
            coarse = mask if kind == "truth" else coarse_mask(mask, kind, rng)
            pairs.append((iou(coarse, mask), iou(predictor.refine(file, coarse), mask)))
    means = {kind: np.mean(pairs, axis=0) * 100 for kind, pairs in found.items()}
    return {kind: (float(before), float(after)) for kind, (before, after) in means.items()}, len(found["truth"])


def objects(cfg: Any, count: int, per_image: int, least: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (image file, bool mask) of objects of the first test set, one image after another in random order.

    Args:
        count: number of objects.
        per_image: most objects of one image.
        least: pixels that an object has at least.

    Raises:
        ValueError: the data set has fewer such objects.
    """
    read, rng = Mapper(cfg, True).read_targets, np.random.default_rng(seed)
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])
    assert read is not None
    left = count
    for index in rng.permutation(len(records)):
        record = records[index]
        size = (record["height"], record["width"])
        masks = read(record, size, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES).to_masks()[1].numpy()
        large = np.flatnonzero(np.count_nonzero(masks, axis=(1, 2)) >= least)
        for chosen in rng.permutation(large)[: min(left, per_image)]:
            yield record["file_name"], masks[chosen]
            left -= 1
        if not left:
            return
    raise ValueError(f"{cfg.DATASETS.TEST[0]} has only {count - left} objects for --objects {count}; ask for fewer.")


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two masks, 0 to 1; ``other`` has a pixel."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure the mean IoU of coarse masks before and after a model with a mask encoder refines them.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="configuration of model and data")
    parser.add_argument("--objects", type=int, default=200, metavar="N", help="objects to measure [%(default)s]")
    parser.add_argument("--per-image", type=int, default=5, metavar="N", help="most objects of an image [%(default)s]")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="kinds of coarse masks [all]")
    parser.add_argument("--least", type=int, default=30, metavar="PIXELS", help="least size of an object [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice and the drawing [%(default)s]")
    parser.add_argument("--output", metavar="FILE", help="write the means as json")
    add_trust(parser)
    add_options(parser)
    return parser


if __name__ == "__main__":
    main()
