"""Find everything that would end a run, before its model is built."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode

from mask2former.config.load import ConfigError
from mask2former.data.images.limits import set_max_pixels
from mask2former.preflight.datasets import data_problems
from mask2former.preflight.evaluation import evaluation_problems
from mask2former.preflight.memory import MODELS, free_bytes, model_size, training_bytes, training_pixels
from mask2former.preflight.problem import Problem, problem, warning
from mask2former.zoo import PACKAGED, find_model, models, packaged_weights

CHECKPOINT_BYTES = 12  # for each parameter: itself and AdamW's two averages, float32


def check_run(
    cfg: CfgNode, *, eval_only: bool = False, resume: bool = False, num_gpus: int = 1, machines: int = 1
) -> None:
    """Look for faults that would end the run, and print warnings. Data sets must be registered before.

    If there are none, the evaluation is tried on one image of each test set. From here on ``INPUT.MAX_PIXELS`` holds in
    this process.

    Args:
        cfg: configuration of the run.
        eval_only, resume: as on the command line.
        num_gpus: number of GPUs used on this machine.
        machines: number of machines that take part.

    Raises:
        ConfigError: the run would fail; the message lists all faults.
    """
    try:
        set_max_pixels(cfg.INPUT.MAX_PIXELS)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    found = list(problems(cfg, eval_only=eval_only, resume=resume, num_gpus=num_gpus, machines=machines))
    if not any(one.fatal for one in found):  # what is missing or misnamed would only be told a second time
        found += evaluation_problems(cfg)
    for one in found:
        if not one.fatal:
            print(f"warning: {one.found} {one.remedy}", file=sys.stderr)
    fatal = [one for one in found if one.fatal]
    if fatal:
        what = "a fault" if len(fatal) == 1 else f"{len(fatal)} faults"
        lines = "\n".join(f"  - {one.found}\n    {one.remedy}" for one in fatal)
        raise ConfigError(f"found {what} that would end this run:\n{lines}")


def problems(
    cfg: CfgNode, *, eval_only: bool = False, resume: bool = False, num_gpus: int = 1, machines: int = 1
) -> Iterator[Problem]:
    """Yield the faults and warnings that files' names and the configuration tell, without reading the data."""
    yield from data_problems(cfg, eval_only)
    yield from _weights(cfg, eval_only, resume)
    yield from _output(cfg)
    yield from _devices(cfg, num_gpus)
    if not eval_only:
        yield from _teacher(cfg)
        yield from _solver(cfg, num_gpus * machines)
        yield from _disk(cfg)
        yield from _memory(cfg, num_gpus * machines)


def _weights(cfg: CfgNode, eval_only: bool, resume: bool) -> Iterator[Problem]:
    weights = cfg.MODEL.WEIGHTS
    if not weights or "://" in weights or find_model(weights) is not None:
        return
    if resume and Path(cfg.OUTPUT_DIR, "last_checkpoint").is_file():
        return
    if weights in PACKAGED:
        try:
            packaged_weights(weights)
        except FileNotFoundError as error:
            yield problem(f"MODEL.WEIGHTS {error}", "Install it; MODEL.WEIGHTS '' trains from scratch.")
        return
    path = Path(weights).expanduser()
    if not path.is_file():
        yield problem(
            f"MODEL.WEIGHTS {weights}: there is no such file, and no published model of that name.",
            "Correct the path, or choose from `python -m mask2former.zoo`"
            + ("." if eval_only else "; MODEL.WEIGHTS '' trains from scratch."),
        )
    elif not os.access(path, os.R_OK):
        yield problem(f"MODEL.WEIGHTS {weights}: the file is not readable.", "Change its permissions.")
    elif not path.stat().st_size or (path.suffix == ".pth" and not _may_be_weights(path)):
        yield problem(f"MODEL.WEIGHTS {weights}: the file is incomplete.", "Download it, or copy it, again.")


def _teacher(cfg: CfgNode) -> Iterator[Problem]:
    node = cfg.MODEL.DISTILLATION
    if not node.ENABLED:
        return
    for key, known in (("TEACHER_CONFIG", False), ("TEACHER_WEIGHTS", node.TEACHER_WEIGHTS in models())):
        if not known and "://" not in node[key] and not Path(node[key]).expanduser().is_file():
            yield problem(
                f"MODEL.DISTILLATION.{key} {node[key]!r}: there is no such file.", "Name the trained teacher's."
            )


def _may_be_weights(path: Path) -> bool:
    """Tell whether a file is a whole zip archive, as PyTorch writes, or begins like a pickle, as before PyTorch 1.6."""
    with path.open("rb") as file:
        begin = file.read(2)
    return zipfile.is_zipfile(path) if begin == b"PK" else begin[:1] == b"\x80"


def _output(cfg: CfgNode) -> Iterator[Problem]:
    folder = _existing(Path(cfg.OUTPUT_DIR))
    if not folder.is_dir():
        yield problem(f"OUTPUT_DIR {cfg.OUTPUT_DIR}: {folder} is a file.", "Choose another OUTPUT_DIR.")
    elif not os.access(folder, os.W_OK):
        yield problem(f"OUTPUT_DIR {cfg.OUTPUT_DIR}: {folder} is not writable.", "Choose another OUTPUT_DIR.")


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _devices(cfg: CfgNode, num_gpus: int) -> Iterator[Problem]:
    there = torch.cuda.device_count()
    if num_gpus > max(there, 1):
        yield problem(f"--num-gpus {num_gpus}: PyTorch sees {there} here.", f"Use --num-gpus {max(there, 1)}.")
    device = cfg.MODEL.DEVICE
    if device.startswith("cuda:") and int(device.removeprefix("cuda:")) >= there:
        yield problem(f"MODEL.DEVICE {device}: PyTorch sees {there} GPUs.", "They are numbered from 0.")


def _solver(cfg: CfgNode, processes: int) -> Iterator[Problem]:
    solver, test = cfg.SOLVER, cfg.TEST
    for key, value, least in (
        ("SOLVER.MAX_ITER", solver.MAX_ITER, 1),
        ("SOLVER.IMS_PER_BATCH", solver.IMS_PER_BATCH, 1),
        ("SOLVER.CHECKPOINT_PERIOD", solver.CHECKPOINT_PERIOD, 1),
        ("TEST.EVAL_PERIOD", test.EVAL_PERIOD, 0),
        ("TEST.DETECTIONS_PER_IMAGE", test.DETECTIONS_PER_IMAGE, 1),
    ):
        if value < least:
            yield problem(f"{key} is {value}.", f"It has to be at least {least}.")
    if solver.BASE_LR <= 0:
        yield problem(f"SOLVER.BASE_LR is {solver.BASE_LR}: nothing would be learnt.", "Published: 0.0001.")
    if solver.IMS_PER_BATCH % processes:
        yield problem(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, and cannot be shared out among {processes} GPUs.",
            f"Make it a multiple of {processes}.",
        )
    if solver.PATIENCE and not 0 < test.EVAL_PERIOD < solver.MAX_ITER:
        yield problem(
            f"SOLVER.PATIENCE {solver.PATIENCE} counts evaluations, and TEST.EVAL_PERIOD {test.EVAL_PERIOD} makes none "
            "before the end.",
            f"Set TEST.EVAL_PERIOD to a share of SOLVER.MAX_ITER, such as {max(1, solver.MAX_ITER // 10)}.",
        )
    if test.EVAL_PERIOD > solver.MAX_ITER:
        yield warning(
            f"TEST.EVAL_PERIOD {test.EVAL_PERIOD} is after SOLVER.MAX_ITER {solver.MAX_ITER}:",
            "evaluated only at the end.",
        )
    if solver.WARMUP_ITERS >= solver.MAX_ITER > 0:
        yield warning(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is not before SOLVER.MAX_ITER {solver.MAX_ITER}:",
            "the learning rate never reaches SOLVER.BASE_LR.",
        )
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if late and "MultiStep" in solver.LR_SCHEDULER_NAME:
        yield warning(
            f"SOLVER.STEPS {late} are after SOLVER.MAX_ITER {solver.MAX_ITER}: the learning rate does not fall there.",
            "The published models lower it at 8/9 and 26/27 of the iterations.",
        )


def _disk(cfg: CfgNode) -> Iterator[Problem]:
    if min(cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.MAX_ITER) < 1:
        return
    folder = _existing(Path(cfg.OUTPUT_DIR))
    each = CHECKPOINT_BYTES * MODELS[model_size(cfg)].parameters
    number = cfg.SOLVER.MAX_ITER // cfg.SOLVER.CHECKPOINT_PERIOD + 1
    if cfg.SOLVER.KEEP > 0:
        number = min(number, cfg.SOLVER.KEEP + 1)  # the oldest goes when the newest is whole
    free = shutil.disk_usage(folder).free
    if each * number > free:
        period = cfg.SOLVER.CHECKPOINT_PERIOD * max(2, -(-number * each // max(1, free)))
        yield problem(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR}: {number} checkpoints of about {each / 1e9:.1f} GB each do not fit in the "
            f"{free / 1e9:.1f} GB that are free.",
            f"Write fewer, such as SOLVER.CHECKPOINT_PERIOD {period} or SOLVER.KEEP 2, or choose another OUTPUT_DIR.",
        )


def _memory(cfg: CfgNode, processes: int) -> Iterator[Problem]:
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        return  # another machine's configuration
    each = max(1, cfg.SOLVER.IMS_PER_BATCH // processes)
    need, free = training_bytes(cfg, each, training_pixels(cfg)), free_bytes(cfg.MODEL.DEVICE)
    if need > free:
        yield warning(
            f"Training takes about {need / 1e9:.0f} GB of memory, roughly estimated, and {free / 1e9:.0f} GB are free.",
            "If it runs out, lower SOLVER.IMS_PER_BATCH with SOLVER.BASE_LR, INPUT.CROP.SIZE or INPUT.IMAGE_SIZE.",
        )
