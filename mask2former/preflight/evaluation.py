"""Try the evaluation of each test set on one image: it comes after the training, and must not fail then."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from mask2former.evaluation.build import build_evaluator, note_rehearsed
from mask2former.evaluation.rehearsal import rehearse
from mask2former.preflight.problem import Problem, problem

FILES = ("file_name", "pan_seg_file_name", "sem_seg_file_name")


def evaluation_problems(cfg: CfgNode) -> Iterator[Problem]:
    """Yield what would end the evaluation on ``DATASETS.TEST``: missing files, and ground truth that cannot be scored.

    All evaluators that ``cfg`` switches on load their ground truth whole, and score a made-up prediction of one image.
    """
    for name in cfg.DATASETS.TEST:
        try:
            records = DatasetCatalog.get(name)
        except Exception as error:  # a loader may raise anything; whatever it is would end the run
            yield _failed(f"{name} cannot be loaded", error)
            continue
        missing = list(_missing(records))
        yield from missing
        if missing:
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                rehearse(build_evaluator(_written_to(cfg, folder), name), functools.partial(list, records))
            note_rehearsed(cfg, name)
        except Exception as error:  # as above
            yield _failed(f"{name} cannot be evaluated on", error)


def _failed(what: str, error: Exception) -> Problem:
    said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
    return problem(
        f"{what}: {said.rstrip('.')}.", "Correct the data set, or leave it out of DATASETS.TEST; --skip-checks goes on."
    )


def _written_to(cfg: CfgNode, folder: str) -> CfgNode:
    other = cfg.clone()
    other.defrost()
    other.OUTPUT_DIR = folder
    return other


def _missing(records: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield a problem for each kind of file of which some are missing; URLs are not looked at."""
    for key in FILES:
        paths = [path for record in records if record.get(key) for path in _paths(record, key) if "://" not in path]
        gone = [path for path in paths if not os.path.exists(path)]
        if gone:
            yield problem(f"{len(gone)} of {len(paths)} files ({key}) are missing, such as {gone[0]}.", "Add them.")


def _paths(record: Mapping[str, Any], key: str) -> Sequence[str]:
    """Return the files of a record: a video has many frames."""
    return record.get("file_names", [record[key]]) if key == "file_name" else [record[key]]
