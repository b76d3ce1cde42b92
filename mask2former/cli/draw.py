"""Draw a model's predictions over the images of a data set, beside the ground truth: ``mask2former draw``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from tqdm import tqdm

from mask2former.cli.settings import settings_of
from mask2former.config import ConfigError, config_path, load_config
from mask2former.custom.saved import register_validation
from mask2former.data.images.read import read_image
from mask2former.predictor import Predictor
from mask2former.visualization import save_comparisons


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        if args.model:
            args.config_file, args.opts = settings_of(args.model, args.opts)
        file = config_path(args.config_file)
        register_validation(file)
        cfg = load_config(file, args.opts, args.allow_unsafe_config)
        name = args.dataset or next(iter(cfg.DATASETS.TEST), "")
        if name not in DatasetCatalog:
            raise ConfigError(f"{name!r}: no data set of that name is registered. --dataset names another one.")
        if args.number < 1:
            raise ConfigError(f"--number {args.number}: draw at least one image.")
        records = DatasetCatalog.get(name)
        predictor = Predictor(cfg)
    except (ConfigError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    chosen = records[:: max(1, len(records) // args.number)][: args.number]

    def results() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for record in tqdm(chosen, desc="drawing", unit="image", disable=None):
            yield record, predictor.outputs(read_image(record["file_name"], "RGB"))

    folder = Path(args.output or f"{cfg.OUTPUT_DIR}/images")
    sheet, *files = save_comparisons(results(), predictor.metadata, folder, args.threshold, args.task)
    print(f"{len(files)} comparisons with the ground truth in {folder}; the first of them together: {sheet}")
    return 0
