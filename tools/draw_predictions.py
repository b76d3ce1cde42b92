#!/usr/bin/env python3
"""Draw a model's predictions over the images of a data set, beside the ground truth. ``--help`` shows how."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from tqdm import tqdm

from mask2former.config import ConfigError, load_config
from mask2former.data.images.read import read_image
from mask2former.predictor import Predictor
from mask2former.visualization import INSTANCE_THRESHOLD, RESULTS, save_comparisons
from mask2former_cli.arguments import add_options, add_trust

EXAMPLE = """
example:
  draw_predictions.py --config-file configs/quickstart/panoptic.yaml --number 24 \\
      MODEL.WEIGHTS output/quickstart/panoptic/model_final.pth
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Draw a model's predictions over the images of a data set, beside the ground truth.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--dataset", metavar="NAME", help="registered data set [the first of DATASETS.TEST]")
    parser.add_argument(
        "--number",
        type=int,
        default=24,
        metavar="N",
        help="number of images, evenly spread over the data set [%(default)s]",
    )
    parser.add_argument("--task", choices=list(RESULTS), help="task to draw [the first of the model]")
    parser.add_argument(
        "--threshold", type=float, default=INSTANCE_THRESHOLD, help="lowest score of drawn instances [%(default)s]"
    )
    parser.add_argument("--output", metavar="FOLDER", help="folder to write to [OUTPUT_DIR/images]")
    add_trust(parser)
    add_options(parser)
    args = parser.parse_args()

    try:
        cfg = load_config(args.config_file, args.opts, args.allow_unsafe_config)
        predictor = Predictor(cfg)
    except (ConfigError, ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    records = DatasetCatalog.get(args.dataset or cfg.DATASETS.TEST[0])
    chosen = records[:: max(1, len(records) // args.number)][: args.number]

    def results() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for record in tqdm(chosen, desc="drawing", unit="image", disable=None):
            yield record, predictor.outputs(read_image(record["file_name"], "RGB"))

    folder = Path(args.output or f"{cfg.OUTPUT_DIR}/images")
    sheet, *files = save_comparisons(results(), predictor.metadata, folder, args.threshold, args.task)
    print(f"{len(files)} comparisons with the ground truth in {folder}; the first of them together: {sheet}")


if __name__ == "__main__":
    main()
