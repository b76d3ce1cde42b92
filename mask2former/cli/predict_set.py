"""Predict on a large set of images: ``mask2former predict --engine``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mask2former.bulk import Settings, find_sources, predict_set
from mask2former.config import ConfigError
from mask2former.download import DownloadError
from mask2former_cli.choices import DEFAULT_MODEL


def predict_large_set(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        if args.config_file:
            raise ValueError("--engine takes a model by --model, whose folder or name every worker can open.")
        if args.backend != "torch" or args.program:
            raise ValueError("--engine runs models in PyTorch: leave out --backend and --program.")
        if args.video_input or args.webcam is not None or args.mask:
            raise ValueError("--engine takes images by --input: no films, cameras or masks.")
        sources = find_sources(args.input, args.image_root)
        settings = Settings(
            model=args.model or DEFAULT_MODEL,
            task=args.task,
            threshold=args.confidence_threshold,
            batch_size=args.batch_size,
            opts=tuple(args.opts),
            form=args.form,
            threads=int(args.cpus) or 1 if args.engine == "ray" else None,
        )
        result = predict_set(
            sources,
            settings,
            Path(args.output),
            engine=args.engine,
            shard_size=args.shard_size,
            workers=args.workers,
            gpus=args.gpus,
            cpus=args.cpus,
            address=args.address,
        )
    except (ConfigError, DownloadError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(sources)} images: {result}")
    return 0
