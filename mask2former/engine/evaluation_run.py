"""Evaluations that a signal may stop, and that can go on afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.file_io import PathManager
from torch import nn

from mask2former.engine.evaluation_progress import shown
from mask2former.engine.interruption import Interrupted, StopRequests
from mask2former.engine.reporting_evaluator import ReportingEvaluator
from mask2former.evaluation.build import Evaluators
from mask2former.evaluation.partial import PartialEvaluator, can_go_on, fingerprint_of

logger = logging.getLogger(__name__)


class StoppableEvaluator(DatasetEvaluator):
    """Evaluate as another evaluator does, until a signal asks to stop.

    Raises:
        Interrupted: from :meth:`process`, after keeping what can be kept.
    """

    def __init__(self, evaluator: DatasetEvaluator, requests: StopRequests) -> None:
        self.evaluator = evaluator
        self.requests = requests

    def reset(self) -> None:
        self.evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        self.evaluator.process(inputs, outputs)
        if not self.requests.number:
            return
        if isinstance(self.evaluator, PartialEvaluator):
            self.evaluator.flush()
            command = shlex.join([*sys.orig_argv, *([] if "TEST.RESUME" in sys.argv else ["TEST.RESUME", "True"])])
            logger.warning(
                "The evaluation was stopped; %s are kept in %s. To go on:\n  %s",
                *(self.evaluator.share, self.evaluator.folder, command),
            )
        raise Interrupted(self.requests.number)

    def evaluate(self) -> Any:
        return self.evaluator.evaluate()


def with_loaders(trainer: type, loaders: Mapping[str, Iterable]) -> type:
    """Return a subclass of a trainer whose test loaders are these, or its own, with their progress shown.

    Detectron2 asks the class for loaders.
    """

    class Prepared(trainer):
        @classmethod
        def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
            own = loaders[dataset_name] if dataset_name in loaders else super().build_test_loader(cfg, dataset_name)
            return shown(own, dataset_name)

    return Prepared


def kept_evaluation(
    cfg: CfgNode, model: nn.Module, name: str, evaluator: DatasetEvaluator, loader: Any, resume: bool
) -> tuple[DatasetEvaluator, Any]:
    """Return evaluator and loader of a data set, made so that the evaluation can go on after an interruption.

    What cannot be kept (evaluators of others, Cityscapes' scripts) is returned as it is; that is said if ``resume``.
    """
    scorers = evaluator.scorers if isinstance(evaluator, ReportingEvaluator) else evaluator
    members = scorers.members if isinstance(scorers, Evaluators) else (scorers,)
    if not can_go_on(loader, members):
        if resume:
            logger.warning(
                "The evaluation on %s starts from the beginning: its evaluators or its loader cannot be resumed.", name
            )
        return evaluator, loader
    settings = cfg.clone()
    settings.defrost()
    settings.MODEL.WEIGHTS = settings.MODEL.DEVICE = ""  # the weights' bytes count
    settings.TEST.RESUME = False
    parts = [settings.MODEL.dump(), settings.INPUT.dump(), settings.TEST.dump(), name, *map(str, map(type, members))]
    parts.append(data_digest(name))
    if (engine := getattr(model, "engine", None)) is not None:  # another engine's results are not PyTorch's
        parts.append(engine.name)
    partial = PartialEvaluator(
        evaluator,
        members,
        Path(cfg.OUTPUT_DIR, "inference", "partial", name),
        fingerprint=fingerprint_of(model, "\n".join(parts), len(loader.dataset)),
        period=cfg.TEST.KEEP_PERIOD,
        resume=resume,
    )
    return partial, partial.remaining(loader)


def data_digest(name: str) -> str:
    """Return a digest of a data set's images (by name and order) and of its ground truth (by content).

    Folders above all images do not count, so that data may be moved, or unpacked anew for each job.

    Args:
        name: its metadata may have ``json_file`` and ``panoptic_json``, and its records (where it is in Detectron2's
            catalogue) annotations or names of label maps.
    """
    digest = hashlib.sha256()
    metadata = MetadataCatalog.get(name)
    listed = DatasetCatalog.get(name) if name in DatasetCatalog else []
    records = [record for record in listed if isinstance(record, Mapping)]  # others' may be of any form
    names = [str(record.get("file_name", "")) for record in records]
    # Not commonpath, which fails where some names are absolute; dirname cuts off the part of a name.
    root = len(os.path.dirname(os.path.commonprefix(names)))  # noqa: RUF071
    for image, record in zip(names, records, strict=True):
        truth = [record.get(key) for key in ("image_id", "annotations", "segments_info")]
        digest.update(json.dumps([image[root:], *truth], default=_plain, skipkeys=True).encode())
    maps = (record.get(key) for record in records for key in ("sem_seg_file_name", "pan_seg_file_name"))
    for file in [metadata.get("json_file"), metadata.get("panoptic_json"), *maps]:
        digest.update(_file_digest(file))
    return digest.hexdigest()


def _file_digest(file: str | None) -> bytes:
    """Return the digest of a file's bytes, and of nothing where there is no file: who needs it says so."""
    digest = hashlib.sha256()
    if file and PathManager.isfile(file):
        with PathManager.open(file, "rb") as stream:
            for part in iter(lambda: stream.read(1 << 20), b""):
                digest.update(part)
    return digest.digest()


def _plain(value: Any) -> Any:
    """Return what JSON takes in place of an array or of bytes."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)
