"""Put the hooks of a training together, in the order in which they have to act."""

from __future__ import annotations

from typing import Any

from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook, IterationTimer, LRScheduler, PreciseBN
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules

from mask2former.data.mapper.bad_images import BadImages
from mask2former.engine.hooks.bad_images import BadImagesHook
from mask2former.engine.hooks.before_evaluation import SaveBeforeEvaluation
from mask2former.engine.hooks.best import BestHook
from mask2former.engine.hooks.checkpoints import CheckpointHook
from mask2former.engine.hooks.curves import CurvesHook
from mask2former.engine.hooks.progress import ProgressHook
from mask2former.engine.hooks.weight_average import WeightAverageHook
from mask2former.engine.hooks.writers import WritersHook
from mask2former.engine.sharding import GatherHook, Sharding
from mask2former.engine.validation_loss import ValidationLoss


def build_training_hooks(trainer: Any) -> list[HookBase | None]:
    """Return Detectron2's default hooks and this project's.

    Args:
        trainer: a proxy of a :class:`~mask2former.engine.trainer.Trainer`, which the hooks must not keep alive.
    """
    cfg, solver = trainer.cfg, trainer.cfg.SOLVER
    main = comm.is_main_process()
    sharding: Sharding | None = getattr(trainer, "sharding", None)
    saves = main or sharding is not None  # whose shards the file of the main process needs
    averaged = None if sharding is None else sharding.average
    average = WeightAverageHook(trainer.model, solver.EMA.DECAY, averaged) if solver.EMA.ENABLED else None
    result = trainer.model if average is None else average.model
    gather = None
    if sharding is not None:
        gather = GatherHook(sharding, result, cfg.TEST.EVAL_PERIOD)
        result = sharding.whole
    during = 0 < cfg.TEST.EVAL_PERIOD < solver.MAX_ITER
    if solver.PATIENCE and not during:
        raise ValueError(
            f"SOLVER.PATIENCE {solver.PATIENCE} counts evaluations, and TEST.EVAL_PERIOD {cfg.TEST.EVAL_PERIOD} makes "
            "none before the end: set it to a share of SOLVER.MAX_ITER, such as a tenth."
        )
    hooks = [
        average,
        IterationTimer(),
        ProgressHook(solver.IMS_PER_BATCH) if main else None,  # after the timer, whose times it shows
        LRScheduler(),
        _precise_bn(trainer),
        gather,
        # Before the evaluation: if that fails, there is a checkpoint.
        CheckpointHook(trainer.checkpointer, solver.CHECKPOINT_PERIOD, final=result, keep=solver.KEEP)
        if saves
        else None,
        # One process alone stops in an evaluation, and saves then.
        SaveBeforeEvaluation(trainer.checkpointer, cfg.TEST.EVAL_PERIOD)
        if saves and comm.get_world_size() > 1
        else None,
        BestHook(trainer.checkpointer, result, metric=cfg.TEST.BEST_METRIC, patience=solver.PATIENCE, save=during),
        EvalHook(cfg.TEST.EVAL_PERIOD, lambda: trainer.evaluate(result)),
    ]
    if cfg.TEST.LOSS_IMAGES and cfg.DATASETS.TEST:
        validation = ValidationLoss(cfg, result, lambda: trainer.autocast())
        hooks.append(EvalHook(cfg.TEST.EVAL_PERIOD, validation))
    if main:
        hooks += [
            WritersHook(lambda: trainer.build_writers()),  # after the evaluation, whose scores they write
            CurvesHook(cfg.OUTPUT_DIR, solver.IMS_PER_BATCH),
            BadImagesHook(BadImages.of(cfg.OUTPUT_DIR), cfg.DATASETS.TRAIN),
        ]
    return hooks


def _precise_bn(trainer: Any) -> PreciseBN | None:
    cfg = trainer.cfg.clone()
    if not cfg.TEST.PRECISE_BN.ENABLED or not get_bn_modules(trainer.model):
        return None
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    loader = trainer.build_train_loader(cfg)  # a new one, not to affect the training
    return PreciseBN(cfg.TEST.EVAL_PERIOD, trainer.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER)
