"""Shared by the scripts of this folder: their command line, listing files, numbering classes, working in parallel."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

IGNORE_LABEL = 255


def command(description: str | None, root: str) -> argparse.ArgumentParser:
    """The command line of a script, with ``--root``.

    Args:
        description: what ``--help`` shows, as it is.
        root: what the folder that ``--root`` names is for, such as "folder that holds coco/".
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument("--root", type=Path, default=Path(default), help=f"{root} [%(default)s]")
    return parser


def add_workers(parser: argparse.ArgumentParser) -> None:
    """``--workers``, for :func:`for_each`."""
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes [%(default)s]")


def files(folder: Path, pattern: str) -> list[Path]:
    """The files that match, in order. Leaves with a message if there are none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"{folder} holds no {Path(pattern).suffix[1:]} files; see datasets/README.md.")
    return found


def class_table(ids: Iterable[int], length: int, ignored: int) -> np.ndarray:
    """[length] of the place of each id in ``ids``, ``ignored`` for the others; of the type that holds ``ignored``."""
    table = np.full(length, ignored, np.min_scalar_type(ignored))
    for place, number in enumerate(ids):
        table[number] = place
    return table


def for_each(convert: Callable[[Any], Any], items: Sequence[Any], workers: int, description: str) -> None:
    """``convert`` each item, in several processes and with a bar. Leaves with the message of a ValueError or OSError.

    Args:
        convert: can be pickled; must not raise SystemExit, which a pool of processes would wait for without end.
    """
    try:
        if workers <= 1:
            for item in tqdm(items, desc=description):
                convert(item)
            return
        cv2.setNumThreads(1)  # OpenCV's own threads have to be gone before a fork: a child would wait for them
        with multiprocessing.Pool(workers) as pool:
            for _ in tqdm(pool.imap_unordered(convert, items, chunksize=16), total=len(items), desc=description):
                pass
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
