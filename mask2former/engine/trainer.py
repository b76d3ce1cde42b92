"""Detectron2's trainer with this project's parts."""

import functools
import logging
import os
import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from torch import nn

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.data.images.limits import set_max_pixels
from mask2former.data.loader import TrainLoader, build_train_loader, leave_signals_to_the_parent, run_seed
from mask2former.data.mapper import Mapper
from mask2former.data.mapper.bad_images import BadImages, InPlaceOfBad
from mask2former.engine.evaluation_run import StoppableEvaluator, kept_evaluation, with_loaders
from mask2former.engine.hooks.bad_images import BadImagesHook, summary
from mask2former.engine.hooks.before_evaluation import SaveBeforeEvaluation
from mask2former.engine.hooks.curves import CurvesHook
from mask2former.engine.hooks.progress import ProgressHook
from mask2former.engine.interruption import (
    SIGNALS,
    Interrupted,
    StopRequests,
    are_noted,
    lost_processes_named,
    resume_command,
    stop_requests,
)
from mask2former.engine.logs import NOTICE
from mask2former.engine.optimizer import build_lr_scheduler, build_optimizer
from mask2former.engine.precision import build_amp_settings
from mask2former.engine.reporting_evaluator import with_report
from mask2former.engine.train_step import DivergedError, TrainStep
from mask2former.engine.wandb_writer import build_wandb_writers
from mask2former.evaluation.build import build_evaluator, was_rehearsed
from mask2former.evaluation.rehearsal import rehearse
from mask2former.evaluation.scores import score_table
from mask2former.evaluation.semantic_form import accepts_label_maps
from mask2former.evaluation.tta import SegmentorWithTTA
from mask2former.files import cut_partial_line, remove_leftovers
from mask2former.modeling.meta_arch import PredictsMasks, WithSettings, unwrapped

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Train, checkpoint and evaluate the model of a configuration.

    ``TEST.EVAL_PERIOD`` is in iterations; 0 evaluates at the end only. ``SOLVER.IMS_PER_BATCH`` counts the images of
    all processes together. Progress goes to the terminal and to log.txt, scalars to metrics.json, curves.html and
    TensorBoard, and to Weights & Biases if WANDB.ENABLED.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # Skip DefaultTrainer's __init__, which fixes the training step and the checkpointer; build the rest as it does.
        super(DefaultTrainer, self).__init__()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        set_max_pixels(cfg.INPUT.MAX_PIXELS)
        self._stops = StopRequests()
        # A proxy, because a reference would make a cycle that keeps the trainer's memory after its last use.
        proxy = weakref.proxy(self)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self._trainer = TrainStep(
            self._distribute(cfg, model),
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
        # Detectron2 names this process's GPU, which DistributedDataParallel refuses for a model on the CPU.
        on_cpu = {} if cfg.MODEL.DEVICE.startswith("cuda") else {"device_ids": None}
        return create_ddp_model(model, broadcast_buffers=False, **on_cpu)

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
        mapper = Mapper(cfg, True)
        images = BadImages.from_config(cfg)
        if images is None:
            return build_train_loader(cfg, mapper)
        records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
        others = DatasetFromList(records, copy=False)
        return build_train_loader(cfg, InPlaceOfBad(mapper, others, images), dataset=records)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        loader = build_detection_test_loader(cfg, dataset_name, mapper=Mapper(cfg, False))
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
        logger.log(NOTICE, "Evaluating on %s.", ", ".join(cfg.DATASETS.TEST))
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
        evaluators = [evaluators] if isinstance(evaluators, DatasetEvaluator) else list(evaluators)
        bare = unwrapped(model)
        if isinstance(bare, PredictsMasks) and all(map(accepts_label_maps, evaluators)):
            model = WithSettings(bare, replace(bare.post_processing, semantic_labels=True))
        set_max_pixels(cfg.INPUT.MAX_PIXELS)
        images = BadImages.of(cfg.OUTPUT_DIR)
        start = images.end()
        comm.synchronize()
        loaders: dict[str, Iterable] = {}
        if keep and cfg.TEST.KEEP_PERIOD > 0:
            for place, name in enumerate(cfg.DATASETS.TEST):
                evaluators[place], loaders[name] = kept_evaluation(
                    cfg, bare, name, evaluators[place], cls.build_test_loader(cfg, name), resume
                )
        with stop_requests() as requests:
            if keep or comm.get_world_size() == 1:  # else the others would wait for ever for one that stopped
                evaluators = [
                    StoppableEvaluator(one, requests) if isinstance(one, DatasetEvaluator) else one
                    for one in evaluators
                ]
            results = super(Trainer, with_loaders(cls, loaders)).test(cfg, model, evaluators)  # type: ignore[misc]
        comm.synchronize()
        if comm.is_main_process():
            logger.log(NOTICE, "Scores:\n%s", score_table(results))
            if bad := _of_datasets(images.since(start), cfg.DATASETS.TEST):  # workers of a training add others
                fate = "count in these scores as blank images"
                logger.warning("%s", summary(bad, cfg.DATASETS.TEST, fate, images.path))
        if not are_noted() and (number := max(comm.all_gather(requests.number))):
            raise Interrupted(number)  # it came when nothing was left to save, so nobody has acted on it
        return results

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

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest whole checkpoint in ``OUTPUT_DIR`` if ``resume``; else load ``MODEL.WEIGHTS``."""
        if resume and comm.is_main_process():
            remove_leftovers(self.cfg.OUTPUT_DIR)
        super().resume_or_load(resume)

    def build_hooks(self) -> list[HookBase | None]:
        hooks = super().build_hooks()
        if comm.is_main_process():
            # After the timer, whose times it shows; before the schedule's step and the last evaluation.
            hooks.insert(1, ProgressHook(self.cfg.SOLVER.IMS_PER_BATCH))
            evaluation = next((place for place, hook in enumerate(hooks) if isinstance(hook, EvalHook)), None)
            if evaluation is not None and comm.get_world_size() > 1:  # one process alone stops, and saves then
                hooks.insert(evaluation, SaveBeforeEvaluation(self.checkpointer, self.cfg.TEST.EVAL_PERIOD))
            hooks.append(CurvesHook(self.cfg.OUTPUT_DIR, self.cfg.SOLVER.IMS_PER_BATCH))
            hooks.append(BadImagesHook(BadImages.of(self.cfg.OUTPUT_DIR), self.cfg.DATASETS.TRAIN))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        PathManager.mkdirs(self.cfg.OUTPUT_DIR)
        cut_partial_line(f"{self.cfg.OUTPUT_DIR}/metrics.json")
        # Not Detectron2's CommonMetricPrinter: it prints every loss of every decoder layer.
        writers = [JSONWriter(f"{self.cfg.OUTPUT_DIR}/metrics.json"), TensorboardXWriter(self.cfg.OUTPUT_DIR)]
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
        with stop_requests() as self._stops:
            try:
                with lost_processes_named():
                    super().train()
            except Interrupted as stop:
                comm.synchronize()  # a launcher ends the other processes as soon as one has ended
                logger.warning(
                    "%s: stopped after iteration %d of %d. To go on:\n  %s",
                    stop.signal.name,
                    min(self.iter + 1, self.max_iter),
                    self.max_iter,
                    resume_command(),
                )
                raise
            finally:
                if isinstance(self.data_loader, TrainLoader):
                    self.data_loader.close()
        return getattr(self, "_last_eval_results", {})

    def run_step(self) -> None:
        try:
            super().run_step()
        except DivergedError as error:
            raise DivergedError(f"{error} {self._save_last_good()}") from None

    def _save_last_good(self) -> str:
        """Save the weights before the bad steps, beside the checkpoint that --resume takes; return what to say."""
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            return "They are not finite either, so they are not saved: go on from an earlier checkpoint."
        tagged = self.checkpointer.get_checkpoint_file() if self.checkpointer.has_checkpoint() else ""
        self.iter -= 1  # the last iteration whose effect is in the weights
        self.checkpointer.save("model_last_good")
        self.iter += 1
        if tagged:  # the update before the bad steps may be what spoiled the weights
            self.checkpointer.tag_last_checkpoint(os.path.basename(tagged))
        said = f"They are saved as model_last_good.pth in {self.cfg.OUTPUT_DIR}"
        return f"{said}; --resume goes on from {os.path.basename(tagged)}." if tagged else f"{said}."

    def after_step(self) -> None:
        """Call the hooks; then stop if a signal asks for it, after saving what the next run needs."""
        try:
            super().after_step()
        except Interrupted as stop:  # an evaluation that was broken off
            self._stop(stop.signal)
        alone = comm.get_world_size() == 1
        agreed = self._votes() if alone else getattr(self._trainer, "agreed", ())  # alone, one during the hooks counts
        asked = [number for number, votes in zip(SIGNALS, agreed, strict=False) if votes]
        if asked and self.iter + 1 < self.max_iter:
            self._stop(asked[0])

    def _stop(self, number: int) -> None:
        name = f"model_{self.iter:07d}"  # as of Detectron2's hook, which may just have saved it
        if getattr(self.checkpointer, "saved", "") != f"{name}.pth":
            self.checkpointer.save(name)
        raise Interrupted(number)

    def _votes(self) -> list[float]:
        return self._stops.votes()

    def _begin_stream(self, seed: int, start: int) -> None:
        """Let random numbers and images be those of a seed, the latter from batch ``start`` on."""
        self._seed = seed
        if isinstance(self._trainer, TrainStep):
            self._trainer.seed = seed
        if isinstance(self.data_loader, TrainLoader):
            self.data_loader.seed, self.data_loader.start = seed, start
        elif start:
            logger.warning(
                "The data loader cannot start at a given image, so images come from the beginning again. "
                "A loader from mask2former.data.loader.build_train_loader can."
            )

    # Detectron2 0.6 leaves the optimiser out of checkpoints. These methods include it, under the main branch's key.

    def state_dict(self) -> dict[str, Any]:
        stream = {"seed": self._seed, "images": (self.iter + 1) * self.cfg.SOLVER.IMS_PER_BATCH}
        return {**super().state_dict(), "_trainer": self._trainer.state_dict(), "stream": stream}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super(DefaultTrainer, self).load_state_dict(state_dict)
        batch = self.cfg.SOLVER.IMS_PER_BATCH
        seen = {"seed": self._seed, "images": (self.iter + 1) * batch} | state_dict.get("stream", {})
        self._begin_stream(seen["seed"], seen["images"] // batch)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        else:
            logger.warning(
                "The checkpoint holds no optimiser state (Detectron2 0.6 wrote none), so it starts from scratch."
            )


def _of_datasets(bad: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    if not bad:
        return {}
    files = {str(record["file_name"]) for name in names for record in DatasetCatalog.get(name)}
    return {file: error for file, error in bad.items() if file in files}


def _largest_norm(cfg: CfgNode) -> float | None:
    """Return the limit of the whole gradient's norm; None for no limit, which a value of 0 means too, as published."""
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    whole_model = clipping.ENABLED and clipping.CLIP_TYPE == "full_model" and clipping.CLIP_VALUE > 0
    return clipping.CLIP_VALUE if whole_model else None
