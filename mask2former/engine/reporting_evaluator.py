"""Evaluation with a report: the scorers, and beside them what counts for ``report.html``."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from mask2former.dashboard.collector import PANOPTIC_FILE, Collector
from mask2former.dashboard.report import EvaluationRecord, write_report
from mask2former.dashboard.run_info import run_info
from mask2former.data.datasets.readers import read_coco_instances
from mask2former.engine.logs import NOTICE
from mask2former.evaluation.build import Evaluators
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.semantic_form import accepts_label_maps
from mask2former.visualization import ANNOTATIONS

logger = logging.getLogger(__name__)


def with_report(cfg: CfgNode, dataset_name: str, scorers: DatasetEvaluator, suffix: str = "") -> DatasetEvaluator:
    """The scorers; if ``TEST.REPORT``, such that they write ``report.html`` and ``scores.json`` into ``OUTPUT_DIR``.

    The names of the files are followed by the data set's if ``DATASETS.TEST`` has several, and by ``suffix``.
    """
    if not cfg.TEST.REPORT:
        return scorers
    metadata = MetadataCatalog.get(dataset_name)
    records = DatasetCatalog.get(dataset_name)
    if _is_on(cfg, "instance") and metadata.get("json_file") and not _is_annotated(records, "instance"):
        records = _with_instances(records, metadata)
    tasks = [task for task in ANNOTATIONS if _is_on(cfg, task) and records and _is_annotated(records, task)]
    if not tasks:
        logger.warning("No report on %s: it has no annotation of a task that is on.", dataset_name)
        return scorers
    collector = Collector(records, metadata, tasks)
    several = f"_{dataset_name}" if len(cfg.DATASETS.TEST) > 1 else ""
    return ReportingEvaluator(cfg, dataset_name, scorers, collector, several + suffix)


def _is_on(cfg: CfgNode, task: str) -> bool:
    return cfg.MODEL.MASK_FORMER.TEST[f"{task.upper()}_ON"]


def _is_annotated(records: Sequence[Mapping[str, Any]], task: str) -> bool:
    """One panoptic annotation is enough: the others may be of images that nothing is known of."""
    if task == "panoptic" and not any(PANOPTIC_FILE in record for record in records):
        return False
    return all(ANNOTATIONS[task][0] in record for record in records)


def _with_instances(records: Sequence[Mapping[str, Any]], metadata: Metadata) -> list[dict[str, Any]]:
    """Panoptic data sets name a file of instances, which average precision reads."""
    things = metadata.thing_dataset_id_to_contiguous_id
    read = read_coco_instances(metadata.json_file, metadata.get("image_root", ""), things)
    annotations = {record["image_id"]: record["annotations"] for record in read}
    return [{**record, "annotations": annotations.get(record["image_id"], [])} for record in records]


class ReportingEvaluator(DatasetEvaluator):
    """Scores as ``scorers`` do; then the main process writes the report.

    Args:
        suffix: of the files' names.
    """

    def __init__(
        self, cfg: CfgNode, dataset_name: str, scorers: DatasetEvaluator, collector: Collector, suffix: str
    ) -> None:
        self.cfg = cfg
        self.dataset_name = dataset_name
        self.scorers = scorers
        self.collector = collector
        self.suffix = suffix
        self._start = time.perf_counter()

    @property
    def accepts_label_maps(self) -> bool:
        return accepts_label_maps(self.scorers)

    def reset(self) -> None:
        self._start = time.perf_counter()
        self.scorers.reset()
        self.collector.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        self.collector.process(inputs, outputs)  # first: Detectron2's panoptic scorer changes the segments' classes
        self.scorers.process(inputs, outputs)

    def evaluate(self) -> Any:
        results = self.scorers.evaluate()
        seconds = time.perf_counter() - self._start
        findings = self.collector.evaluate()
        if findings is not None and comm.is_main_process():
            folder, cfg = Path(self.cfg.OUTPUT_DIR), self.cfg
            folder.mkdir(parents=True, exist_ok=True)
            page = write_report(
                folder / f"report{self.suffix}.html",
                EvaluationRecord(
                    title=folder.resolve().name,
                    dataset=self.dataset_name,
                    results=results,
                    findings=findings,
                    metadata=self.collector.metadata,
                    masks=self._evaluation_of_masks(),
                    facts=run_info(cfg.MODEL.DEVICE, seconds, findings.images, evaluated_weights(cfg.MODEL.WEIGHTS)),
                    config=cfg.dump(),
                ),
            )
            (folder / f"scores{self.suffix}.json").write_text(json.dumps(results, indent=1))
            logger.log(NOTICE, "Report: %s", page)
        return results

    def _evaluation_of_masks(self) -> Any:
        """COCO's, of the instances; None where there is none."""
        scorers = self.scorers.members if isinstance(self.scorers, Evaluators) else [self.scorers]
        found = [s.evaluations.get("segm") for s in scorers if isinstance(s, InstanceEvaluator)]
        return found[0] if found else None


def evaluated_weights(configured: str) -> str:
    """In words: those that are configured, or of the training that is going on, which began with them."""
    try:
        iterations = get_event_storage().iter + 1
    except AssertionError:  # Detectron2's answer outside of a training
        return configured or "random"
    return f"of this run after {iterations} iterations" + (f", begun with {configured}" if configured else "")
