"""Detectron2's trainer with this project's parts."""

import functools
import logging
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.engine import HookBase, create_ddp_model
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from torch import nn

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.data.images.limits import set_max_pixels
from mask2former.data.loader import build_test_loader, build_train_loader, run_seed, training_records
from mask2former.data.mapper import build_mapper
from mask2former.data.mapper.bad_images import BadImages, InPlaceOfBad
from mask2former.data.worker_signals import leave_signals_to_the_parent
from mask2former.engine.evaluate import evaluate
from mask2former.engine.freed_memory import keep_freed_memory
from mask2former.engine.hooks.build import build_training_hooks
from mask2former.engine.hooks.writers import drop_rows_from
from mask2former.engine.logs import NOTICE
from mask2former.engine.optimizer import build_lr_scheduler, build_optimizer
from mask2former.engine.precision import build_amp_settings
from mask2former.engine.reporting_evaluator import with_report
from mask2former.engine.resumable_trainer import ResumableTrainer
from mask2former.engine.sharding import Sharding, sharding_wanted
from mask2former.engine.train_step import TrainStep
from mask2former.engine.wandb_writer import build_wandb_writers
from mask2former.evaluation.build import build_evaluator, was_rehearsed
from mask2former.evaluation.rehearsal import rehearse
from mask2former.evaluation.tta import SegmentorWithTTA
from mask2former.files import cut_partial_line

logger = logging.getLogger(__name__)


class Trainer(ResumableTrainer):
    """Train, checkpoint and evaluate the model of a configuration.

    ``TEST.EVAL_PERIOD`` is in iterations; 0 evaluates at the end only. ``SOLVER.IMS_PER_BATCH`` counts the images of
    all processes together. Progress goes to the terminal and to log.txt, scalars to metrics.json, curves.html and
    TensorBoard, and to Weights & Biases if WANDB.ENABLED.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        set_max_pixels(cfg.INPUT.MAX_PIXELS)
        # A proxy, because a reference would make a cycle that keeps the trainer's memory after its last use.
        proxy = weakref.proxy(self)
        model = self.build_model(cfg)
        # Before the optimiser is built, which has to see the shards.
        self.sharding = Sharding(model, averaged=cfg.SOLVER.EMA.ENABLED) if sharding_wanted(cfg) else None
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self._trainer = TrainStep(
            self._distribute(cfg, model) if self.sharding is None else model,
            data_loader,
            optimizer,
            precision=build_amp_settings(cfg),
            max_grad_norm=_largest_norm(cfg),
            norm_type=cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE,
            accumulate_steps=cfg.SOLVER.ACCUMULATE_STEPS,
            max_bad_steps=cfg.SOLVER.MAX_BAD_STEPS,
            votes=lambda: proxy._votes(),
        )
        self._begin_stream(run_seed(cfg), start=0)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = MaskFormerCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=proxy)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @staticmethod
    def _distribute(cfg: CfgNode, model: nn.Module) -> nn.Module:
        # Detectron2 takes the process's number on its machine for its GPU's, which is another where a scheduler shows
        # each process one GPU; and DistributedDataParallel refuses a GPU for a model on the CPU.
        gpus = [torch.cuda.current_device()] if cfg.MODEL.DEVICE.startswith("cuda") else None
        # After its first step, DistributedDataParallel lays gradients out anew, so that more than two processes sum
        # them in another order than the first step of a resumed training does. Looking for unused parameters keeps
        # the first layout; it is a walk over the graph each step, and so is left out on GPUs.
        fixed = gpus is None and comm.get_world_size() > 2
        return create_ddp_model(model, broadcast_buffers=False, device_ids=gpus, find_unused_parameters=fixed)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        count = sum(parameter.numel() for parameter in model.parameters())
        logger.info(
            "%s with %.1f million parameters on %s.", cfg.MODEL.META_ARCHITECTURE, count / 1e6, cfg.MODEL.DEVICE
        )
        logger.debug("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        mapper = build_mapper(cfg, True, cfg.DATASETS.TRAIN)
        images = BadImages.from_config(cfg)
        if images is None:
            return build_train_loader(cfg, mapper)
        records = training_records(cfg)
        others = DatasetFromList(records, copy=False)
        return build_train_loader(cfg, InPlaceOfBad(mapper, others, images), dataset=records)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        loader: Any = build_test_loader(cfg, dataset_name, build_mapper(cfg, False, [dataset_name]))
        loader.worker_init_fn = leave_signals_to_the_parent
        return loader

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return with_report(cfg, dataset_name, build_evaluator(cfg, dataset_name))

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
        *,
        keep: bool = False,
        resume: bool = False,
    ) -> dict[str, Any]:
        """Evaluate on ``DATASETS.TEST``, and return {task: {metric: value}}; {data set: that} if there are several.

        If all evaluators accept label maps, the model returns these as its semantic result, which saves the scores.

        Args:
            cfg: the configuration.
            model: with the weights to evaluate.
            evaluators: one for each data set; None: :meth:`build_evaluator`.
            keep: keep what is counted in ``OUTPUT_DIR`` until the end (``TEST.KEEP_PERIOD``).
            resume: go on from what an interrupted evaluation has kept.

        Raises:
            Interrupted: a signal came; see :mod:`mask2former.engine.interruption`.
        """
        if not cfg.DATASETS.TEST:
            return {}
        return evaluate(cls, cfg, model, evaluators, keep=keep, resume=resume)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate with test-time augmentation (``TEST.AUG``); return :meth:`test`'s scores, with ``_TTA`` after keys.

        Files go to ``inference_TTA`` in the output folder.
        """
        logger.log(NOTICE, "With test-time augmentation: sizes %s, flip %s.", cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP)
        evaluators = [
            with_report(cfg, name, build_evaluator(cfg, name, folder="inference_TTA"), suffix="_TTA")
            for name in cfg.DATASETS.TEST
        ]
        results = cls.test(cfg, SegmentorWithTTA(cfg, model), evaluators)
        return {f"{key}_TTA": scores for key, scores in results.items()}

    def build_hooks(self) -> list[HookBase | None]:
        return build_training_hooks(weakref.proxy(self))

    def build_writers(self) -> list[EventWriter]:
        PathManager.mkdirs(self.cfg.OUTPUT_DIR)
        metrics = f"{self.cfg.OUTPUT_DIR}/metrics.json"
        cut_partial_line(metrics)
        drop_rows_from(metrics, self.start_iter, keep_last_scores=0 < self.start_iter < self.max_iter)
        # Not Detectron2's CommonMetricPrinter: it prints every loss of every decoder layer.
        writers = [
            JSONWriter(metrics),
            TensorboardXWriter(self.cfg.OUTPUT_DIR, purge_step=self.start_iter or None),
        ]
        return [*writers, *build_wandb_writers(self.cfg)]

    def train(self) -> dict[str, Any]:
        """Train from ``start_iter`` to the end, after trying the evaluation on one image.

        Returns:
            The scores of the last evaluation, as from :meth:`test`; empty on other processes than the main one.

        Raises:
            Interrupted: a signal came (see :mod:`mask2former.engine.interruption`), and everything is saved. As a
                SystemExit, it ends the program with the signal's exit code.
            DivergedError: see :class:`TrainStep`; the last good state is saved as model_last_good.pth.
            LostProcessError: another process of the training is gone.
            ValueError: a data set of ``DATASETS.TEST`` cannot be evaluated on; the message names file and id.
        """
        # A subclass with a test of its own may need no evaluators.
        ours = getattr(type(self).test, "__func__", None) is Trainer.test.__func__  # type: ignore[attr-defined]
        for name in self.cfg.DATASETS.TEST if ours and comm.is_main_process() else ():
            if type(self).build_evaluator == Trainer.build_evaluator and was_rehearsed(self.cfg, name):
                continue  # by the checks before this run
            rehearse(self.build_evaluator(self.cfg, name), functools.partial(DatasetCatalog.get, name))
        if self.cfg.MODEL.DEVICE == "cpu":
            keep_freed_memory()
        return super().train()


def _largest_norm(cfg: CfgNode) -> float | None:
    """Return the limit of the whole gradient's norm; None for no limit, which a value of 0 means too, as published."""
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    whole_model = clipping.ENABLED and clipping.CLIP_TYPE == "full_model" and clipping.CLIP_VALUE > 0
    return clipping.CLIP_VALUE if whole_model else None
