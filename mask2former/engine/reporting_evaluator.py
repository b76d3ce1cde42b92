"""Evaluate with a report: the evaluators' scores, and ``report.html`` from the images that they compared."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from mask2former.dashboard.best_effort import BestEffort
from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.collector import TASKS, Collector, Findings
from mask2former.dashboard.films import Films
from mask2former.dashboard.report import EvaluationRecord, write_report
from mask2former.dashboard.run_info import run_info
from mask2former.engine.logs import NOTICE
from mask2former.evaluation.build import Evaluators
from mask2former.evaluation.connected_components_pq import SemanticPanopticEvaluator
from mask2former.evaluation.handover import ComparedImage
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import FastCounts
from mask2former.evaluation.semantic_form import accepts_label_maps
from mask2former.evaluation.video import YTVISEvaluator
from mask2former.files import write_text

logger = logging.getLogger(__name__)

Teller = PanopticEvaluator | InstanceEvaluator | FastCounts  # evaluators that hand over what they have compared
TELLERS: dict[str, type[Teller]] = {
    "panoptic": PanopticEvaluator,
    "instance": InstanceEvaluator,
    "semantic": FastCounts,
}


def with_report(cfg: CfgNode, dataset_name: str, scorers: DatasetEvaluator, suffix: str = "") -> DatasetEvaluator:
    """Return the scorers; with ``TEST.REPORT`` they also write a report.

    It is ``report.html``, ``scores.json`` and ``run.json`` (when, where and by which command) in ``OUTPUT_DIR``. The
    data set's name is appended to those of the files if ``DATASETS.TEST`` has several, and then ``suffix``.
    """
    if not cfg.TEST.REPORT:
        return scorers
    attempt = report_attempt(dataset_name)
    return attempt(ReportingEvaluator, cfg, dataset_name, scorers, suffix) or scorers


def report_attempt(dataset_name: str) -> BestEffort:
    return BestEffort(f"The report on {dataset_name}", "TEST.REPORT False switches it off.")


class ReportingEvaluator(DatasetEvaluator):
    """Score as ``scorers`` do; then the main process writes the report, which changes no score, even if it fails.

    The report compares nothing itself: a task whose scorer is not from this package has only its scores in it.

    Args:
        suffix: end of the files' names.
    """

    def __init__(self, cfg: CfgNode, dataset_name: str, scorers: DatasetEvaluator, suffix: str = "") -> None:
        self.cfg = cfg
        self.dataset_name = dataset_name
        self.scorers = scorers
        several = f"_{dataset_name}" if len(cfg.DATASETS.TEST) > 1 else ""
        self.suffix = several + suffix
        self._attempt = report_attempt(dataset_name)
        members = scorers.members if isinstance(scorers, Evaluators) else (scorers,)
        # SemanticPanopticEvaluator's segments are made from semantic results, so they are not the panoptic task's.
        self._tellers: dict[str, Teller] = {
            task: member
            for task, kind in TELLERS.items()
            for member in members
            if isinstance(member, kind) and not isinstance(member, SemanticPanopticEvaluator)
        }
        self._clips = next((member for member in members if isinstance(member, YTVISEvaluator)), None)
        self.collector = Collector(MetadataCatalog.get(dataset_name), list(self._tellers))
        for teller in self._tellers.values():
            teller.on_image = self._take
        self.reset()

    @property
    def accepts_label_maps(self) -> bool:
        return accepts_label_maps(self.scorers)

    def reset(self) -> None:
        self._start = time.perf_counter()
        self._images = 0
        self._attempt.failure = ""
        self.scorers.reset()
        self.collector.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        self._images += len(inputs)
        self.scorers.process(inputs, outputs)

    def _take(self, image: ComparedImage) -> None:
        if not self._attempt.failure:  # after a failure the counts lack an image, so more would be useless
            self._attempt(self.collector.add, image)

    def evaluate(self) -> Any:
        results = self.scorers.evaluate()
        seconds = time.perf_counter() - self._start
        parts = comm.gather((self.collector.findings, self._images, self._attempt.failure))
        if comm.is_main_process():
            BestEffort("The file of the scores", "Is there room on the disk?")(self._write_scores, results, seconds)
            failures = [failure for *_, failure in parts if failure]
            if not failures:
                self._attempt(self._write_report, results, seconds, parts)
            elif not self._attempt.failure:  # this process's own failure is logged already
                self._attempt.warn(failures[0])
        return results

    def _write_scores(self, results: Any, seconds: float) -> None:
        folder = Path(self.cfg.OUTPUT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"scores{self.suffix}.json", json.dumps(results, indent=1))
        facts = {"Command": shlex.join(sys.argv), "Data set": self.dataset_name} | self._facts(seconds, self._images)
        write_text(folder / f"run{self.suffix}.json", json.dumps(facts, indent=1))

    def _facts(self, seconds: float, images: int) -> dict[str, str]:
        model = self.cfg.MODEL
        return run_info(model.DEVICE, seconds, images, evaluated_weights(model.WEIGHTS, self.cfg.SOLVER.MAX_ITER))

    def _write_report(self, results: Any, seconds: float, parts: list[tuple[Findings, int, str]]) -> None:
        folder, cfg = Path(self.cfg.OUTPUT_DIR), self.cfg
        findings = Collector.together(part for part, *_ in parts)
        images = sum(number for _, number, _ in parts)
        masks = self._tellers.get("instance")
        films, metadata = None, MetadataCatalog.get(self.dataset_name)
        if self._clips is not None and self._clips.compared is not None:
            films = Films.of(self._clips.compared, ClassList.of(metadata, ["instance"]), metadata)
        page = write_report(
            folder / f"report{self.suffix}.html",
            EvaluationRecord(
                title=folder.resolve().name,
                dataset=self.dataset_name,
                results=results,
                images=images,
                findings=findings,
                classes=self.collector.classes if films is None else films.classes,
                left_out=self._left_out(findings, images),
                masks=masks.evaluations.get("segm") if isinstance(masks, InstanceEvaluator) else None,
                facts=self._facts(seconds, images),
                config=cfg.dump(),
                films=films,
            ),
        )
        logger.log(NOTICE, "Report: %s", page)

    def _left_out(self, findings: Findings, images: int) -> dict[str, str]:
        """Return task -> why the report lacks it or part of its images, for tasks that are on; log it too."""
        reasons = {}
        for task in TASKS.values():
            compared = findings.compared[task]
            if not self.cfg.MODEL.MASK_FORMER.TEST[f"{task.upper()}_ON"] or compared == images:
                continue
            if task == "instance" and self._clips is not None and self._clips.compared is not None:
                continue
            if task not in self._tellers:
                reasons[task] = "they are not scored, or their evaluator does not hand over its matches"
            else:
                reasons[task] = f"{images - compared} of {images} images have no ground truth or no result for it"
        if reasons:
            logger.warning("The report lacks: %s.", "; ".join(f"{task} ({why})" for task, why in reasons.items()))
        return reasons


def evaluated_weights(configured: str, max_iter: int) -> str:
    """Describe the evaluated weights: the configured ones, or those of the current training, which began with them.

    Args:
        configured: ``MODEL.WEIGHTS``.
        max_iter: ``SOLVER.MAX_ITER``; Detectron2 counts on by one after the last iteration.
    """
    try:
        iterations = min(get_event_storage().iter + 1, max_iter)
    except AssertionError:  # raised by Detectron2 outside of a training
        return configured or "random"
    return f"of this run after {iterations} iterations" + (f", started from {configured}" if configured else "")
