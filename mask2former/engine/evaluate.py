"""Evaluate a model on the data sets of a configuration, so that a signal may stop it and it can go on afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import distributed, nn

from mask2former.data.images.limits import set_max_pixels
from mask2former.data.mapper.bad_images import BadImages
from mask2former.engine.evaluation_run import StoppableEvaluator, kept_evaluation, with_loaders
from mask2former.engine.hooks.bad_images import summary
from mask2former.engine.interruption import Interrupted, are_noted, stop_requests
from mask2former.engine.logs import NOTICE
from mask2former.evaluation.scores import score_table
from mask2former.evaluation.semantic_form import accepts_label_maps
from mask2former.modeling.meta_arch import PredictsMasks, WithSettings, unwrapped

logger = logging.getLogger(__name__)


def evaluate(
    trainer: type[DefaultTrainer],
    cfg: CfgNode,
    model: nn.Module,
    evaluators: DatasetEvaluator | list[DatasetEvaluator] | None,
    *,
    keep: bool,
    resume: bool,
) -> dict[str, Any]:
    """Do what :meth:`mask2former.engine.trainer.Trainer.test` says.

    Args:
        trainer: builds loaders and evaluators.
        cfg, model, evaluators, keep, resume: see there.
    """
    logger.log(NOTICE, "Evaluating on %s.", ", ".join(cfg.DATASETS.TEST))
    if evaluators is None:
        evaluators = [trainer.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
    evaluators = [evaluators] if isinstance(evaluators, DatasetEvaluator) else list(evaluators)
    bare = unwrapped(model)
    if isinstance(bare, PredictsMasks) and all(map(accepts_label_maps, evaluators)):
        model = WithSettings(bare, replace(bare.post_processing, semantic_labels=True))
    set_max_pixels(cfg.INPUT.MAX_PIXELS)
    images = BadImages.of(cfg.OUTPUT_DIR)
    start = images.end()
    _take_first_statistics(bare)
    loaders: dict[str, Iterable] = {}
    if keep and cfg.TEST.KEEP_PERIOD > 0:
        for place, name in enumerate(cfg.DATASETS.TEST):
            evaluators[place], loaders[name] = kept_evaluation(
                cfg, bare, name, evaluators[place], trainer.build_test_loader(cfg, name), resume
            )
    with stop_requests() as requests:
        if keep or comm.get_world_size() == 1:  # else the others would wait for ever for one that stopped
            evaluators = [
                StoppableEvaluator(one, requests) if isinstance(one, DatasetEvaluator) else one for one in evaluators
            ]
        # Detectron2's, whatever the class makes of its own.
        results = DefaultTrainer.test.__func__(with_loaders(trainer, loaders), cfg, model, evaluators)
    comm.synchronize()
    if comm.is_main_process():
        logger.log(NOTICE, "Scores:\n%s", score_table(results))
        if bad := _of_datasets(images.since(start), cfg.DATASETS.TEST):  # workers of a training add others
            fate = "count in these scores as blank images"
            logger.warning("%s", summary(bad, cfg.DATASETS.TEST, fate, images.path))
    if not are_noted() and (number := max(comm.all_gather(requests.number))):
        raise Interrupted(number)  # it came when nothing was left to save, so nobody has acted on it
    return results


def _take_first_statistics(model: Any) -> None:
    """Give all processes the first one's running statistics, which checkpoints hold, so that all score one model."""
    if comm.get_world_size() > 1 and isinstance(model, nn.Module):
        for buffer in model.buffers():
            distributed.broadcast(buffer.detach(), 0)
    comm.synchronize()


def _of_datasets(bad: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    if not bad:
        return {}
    records = [record for name in names for record in DatasetCatalog.get(name)]
    files = {str(file) for record in records for file in record.get("file_names", [record["file_name"]])}
    return {file: error for file, error in bad.items() if file in files}
