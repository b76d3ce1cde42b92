"""Train or evaluate the model of a configuration file: ``mask2former train``."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from mask2former.backends import BackendError, use_backend
from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.config import ConfigError, config_path, load_config
from mask2former.config.batch_size import scale_to_batch
from mask2former.config.command_line import aliased, set_epochs, set_image_size
from mask2former.custom.saved import register_validation
from mask2former.engine.logs import setup_run
from mask2former.engine.processes import find_place, run_in_processes
from mask2former.engine.slurm import Allocation, submit
from mask2former.engine.trainer import Trainer
from mask2former.preflight.preflight import check_run
from mask2former_cli import run_command


def read_config(args: argparse.Namespace) -> CfgNode:
    short = aliased(args)
    for key, value in zip(short[::2], short[1::2], strict=True):
        print(f"{key} {value}: by its short name")
    args.opts = [*short, *args.opts]
    if args.config_file:
        args.config_file = config_path(args.config_file)  # Detectron2's setup logs the file
        register_validation(args.config_file)
    cfg = load_config(args.config_file, args.opts, args.allow_unsafe_config)
    if args.scale_lr:
        file_batch = load_config(args.config_file, (), args.allow_unsafe_config).SOLVER.IMS_PER_BATCH
        print(f"--scale-lr: {scale_to_batch(cfg, file_batch, given=args.opts[::2])}")
    if args.imgsz is not None:
        print(set_image_size(cfg, args.imgsz, args.opts))
    if args.epochs is not None:
        print(set_epochs(cfg, args.epochs, args.opts))
    return cfg


def train(cfg: CfgNode, args: argparse.Namespace) -> dict:
    """Train or evaluate in one process; return {task: {metric: value}}, or {data set: that} for several."""
    register_validation(args.config_file)  # in a new process, the catalogs do not have them yet
    setup_run(cfg, args, quiet=args.quiet)
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    model = Trainer.build_model(cfg)
    checkpointer = MaskFormerCheckpointer(model, cfg.OUTPUT_DIR)
    if not cfg.MODEL.WEIGHTS and not checkpointer.has_checkpoint():
        sys.exit(f"error: there is no checkpoint in OUTPUT_DIR {cfg.OUTPUT_DIR} to evaluate, and no MODEL.WEIGHTS.")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    use_backend(model, getattr(args, "backend", "torch"), getattr(args, "program", None))
    results = Trainer.test(cfg, model, keep=True, resume=args.resume or cfg.TEST.RESUME)
    if cfg.TEST.AUG.ENABLED:
        results.update(Trainer.test_with_TTA(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def checked_config(args: argparse.Namespace) -> CfgNode:
    """Return the configuration after checking the run.

    Raises:
        ConfigError: faults were found that would end the run; the message lists them.
    """
    cfg = read_config(args)
    if args.eval_only and not args.resume and not cfg.MODEL.WEIGHTS:
        raise ConfigError("--eval-only needs the weights to evaluate: MODEL.WEIGHTS FILE at the end, or --resume.")
    if args.num_gpus * args.num_machines > 1 and not torch.cuda.is_available():
        raise ConfigError("--num-gpus and --num-machines above 1 need GPUs, and PyTorch sees none here.")
    place = find_place()
    if not args.skip_checks and (place is None or place.rank == 0):  # one process speaks for all
        check_run(
            cfg,
            eval_only=args.eval_only,
            resume=args.resume,
            num_gpus=args.num_gpus,
            machines=args.num_machines if place is None else place.world_size,
        )
    cfg.freeze()
    return cfg


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    try:
        cfg = checked_config(args)
        if args.slurm:
            return submit_command("train", args, cfg.OUTPUT_DIR)
        run_in_processes(
            train,
            (cfg, args),
            device=cfg.MODEL.DEVICE,
            num_gpus=args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
        )
    except (ConfigError, BackendError) as error:
        sys.exit(f"error: {error}")
    return 0


def run_words(name: str, words: Sequence[str]) -> None:
    """Run a command of these words, as a process of a job, which fails if the command does."""
    if status := run_command(name, words):
        sys.exit(status)


def submit_command(name: str, args: argparse.Namespace, output: str) -> int:
    """Submit a command of these words (``args.words``) to Slurm, as ``args.slurm`` asks; return the exit status.

    Args:
        name: "train" or "train-custom".
        output: the run's folder.

    Raises:
        ConfigError: see :func:`mask2former.engine.slurm.submit`.
    """
    asked, folder = Allocation.read(args.slurm), Path(output, "slurm").resolve()
    job = submit(functools.partial(run_words, name), _without_slurm(args.words), asked, folder)
    print(f"Job {job.job_id} was submitted. What it prints: {folder}/{job.job_id}_0_log.out and .err")
    print(
        "It goes on by itself after its time limit or a preemption. "
        + (f"To end it: scancel {job.job_id}" if asked.cluster == "slurm" else f"To end it: kill -INT {job.job_id}")
    )
    return 0


def _without_slurm(words: Sequence[str]) -> list[str]:
    """Return the words without ``--slurm`` and its value, which argparse lets be abbreviated."""
    kept, words = [], list(words)
    while words:
        flag, equals, _ = (word := words.pop(0)).partition("=")
        if len(flag) > 3 and "--slurm".startswith(flag):
            words = words if equals else words[1:]
        else:
            kept.append(word)
    return kept
