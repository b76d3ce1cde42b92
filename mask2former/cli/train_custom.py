"""Train on custom data without writing code: ``mask2former train-custom``."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from tabulate import tabulate

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.cli.train import submit_command
from mask2former.config import ConfigError
from mask2former.config.command_line import aliased
from mask2former.custom import CustomDataset, DataError, build_dataset, open_data
from mask2former.custom.model import configuration, settings
from mask2former.custom.plan import plan_training
from mask2former.custom.saved import save_validation
from mask2former.custom.settings import TrainingPlan
from mask2former.data.images.limits import set_max_pixels
from mask2former.engine.interruption import signals_to_children
from mask2former.engine.logs import setup_run
from mask2former.engine.processes import find_place, joined
from mask2former.engine.trainer import Trainer
from mask2former.predictor.resolve_model import weights_of
from mask2former.preflight.memory import free_bytes
from mask2former.preflight.preflight import check_run


def train(cfg: CfgNode, data: CustomDataset, args: argparse.Namespace) -> None:
    """Train or evaluate in one process."""
    if args.num_gpus > 1:  # a new process, whose catalogs do not have the data yet
        data.register()
    setup_run(cfg, args, quiet=args.quiet)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        MaskFormerCheckpointer(model, cfg.OUTPUT_DIR).load(cfg.MODEL.WEIGHTS)
        Trainer.test(cfg, model, keep=True, resume=args.resume or cfg.TEST.RESUME)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    place = None
    try:
        if args.slurm:
            _check_words(args)
            return submit_command("train-custom", args, args.output)
        if (place := find_place()) is None:
            return _run_here(args)
        if args.num_gpus > 1:
            raise ConfigError(
                f"{place.launcher} has started {place.world_size} processes already: leave out --num-gpus."
            )
        _tidy(args)
        with joined(place, settings(args.model, args.from_scratch, args.opts).MODEL.DEVICE):
            return _run_together(args)
    except ConfigError as error:
        if place is None or place.rank == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2


def _run_here(args: argparse.Namespace) -> int:
    _tidy(args)
    prepared = _prepared(args)
    if isinstance(prepared, int):
        return prepared
    cfg, data = prepared
    with signals_to_children() if args.num_gpus > 1 else nullcontext():
        launch(train, args.num_gpus, dist_url="auto", args=(cfg, data, args))
    _say_the_end(args, data)
    return 0


def _run_together(args: argparse.Namespace) -> int:
    """Do what :func:`run` does as one of the processes that a launcher has started: the first prepares for all."""
    main = comm.is_main_process()
    prepared: tuple[CfgNode, CustomDataset] | int = 1
    try:
        if main:
            prepared = _prepared(args)
    finally:  # whatever ended it has to end the others too, which wait for it
        prepared = comm.all_gather(prepared)[0]
    if isinstance(prepared, int):
        return prepared
    cfg, data = prepared
    if not main:
        data.register()
    train(cfg, data, args)
    if main:
        _say_the_end(args, data)
    return 0


def _check_words(args: argparse.Namespace) -> None:
    """Find what is wrong in the words and needs no look at the data, before a job waits for its turn.

    Raises:
        ConfigError: something is.
    """
    own = argparse.Namespace(**{**vars(args), "train": [*args.train], "val": [*(args.val or [])]})
    _tidy(own)
    settings(own.model, own.from_scratch, own.opts)
    if missing := [path for path in (*own.train, *own.val) if "://" not in path and not Path(path).exists()]:
        raise ConfigError(f"{missing[0]}: there is no such file or folder.")


def _tidy(args: argparse.Namespace) -> None:
    """Put settings that stand among paths, and those with short names, where the others are."""
    for paths in (args.train, args.val or []):
        args.opts = [*_settings_among(paths), *args.opts]
    # setup_run passes it to Detectron2, which logs the file.
    args.config_file = ""
    args.opts = [*aliased(args), *args.opts]
    if args.imgsz is not None and "INPUT.MIN_SIZE_TEST" not in args.opts:  # the other sizes follow
        args.opts = ["INPUT.MIN_SIZE_TEST", str(args.imgsz), *args.opts]


def _prepared(args: argparse.Namespace) -> tuple[CfgNode, CustomDataset] | int:
    """Convert the data and choose the settings, and show both; return them, or the exit status if that is all."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            # A dry run leaves nothing behind.
            cfg, data, plan = _prepare(args, Path(folder) if args.dry_run else Path(args.output, "data"))
        print(_summary(data), _settings(plan), sep="\n\n", flush=True)
        if args.dry_run:
            return 0
        check_run(
            cfg,
            eval_only=args.eval_only,
            resume=args.resume,
            num_gpus=args.num_gpus,
            machines=comm.get_world_size(),  # each process of a launcher counts as a machine of one GPU
        )
    except (DataError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    save_validation(data, Path(args.output))
    cfg.freeze()
    return cfg, data


def _say_the_end(args: argparse.Namespace, data: CustomDataset) -> None:
    own = f"for frame in Predictor('{args.output}').stream('film.mp4'): ..."
    if data.kind != "video":
        own = f"Predictor('{args.output}')('image.jpg').save('out.png')"
    print(
        f"\nEverything is in {args.output}. To look at: {args.output}/report.html, {args.output}/curves.html\n"
        f"On {'a film' if data.kind == 'video' else 'an image'} of your own:\n"
        f"  from mask2former import Predictor; {own}"
    )


def _prepare(args: argparse.Namespace, folder: Path) -> tuple[CfgNode, CustomDataset, TrainingPlan]:
    output = Path(args.output)
    if "OUTPUT_DIR" in args.opts:
        raise ConfigError("OUTPUT_DIR is what --output says here.")
    limit = settings(args.model, args.from_scratch, args.opts).INPUT.MAX_PIXELS
    try:
        set_max_pixels(limit)  # before the data are read
    except ValueError as error:
        raise ConfigError(str(error)) from error
    opened = open_data(args.train, args.val, folder)
    data = build_dataset(
        opened.train,
        opened.val,
        folder,
        name=output.name,
        class_names=_class_names(args.classes) or opened.class_names,
        ignore_label=args.ignore_label if opened.ignore_label is None else opened.ignore_label,
    )
    data.notes[:0] = opened.notes
    data.register()
    weights = args.weights or (weights_of(output) if args.eval_only else None)
    cfg, fixed = configuration(args.model, weights, args.from_scratch, args.opts)
    cfg.OUTPUT_DIR = str(output)
    processes, local = comm.get_world_size(), comm.get_local_size()
    on_gpus = cfg.MODEL.DEVICE.startswith("cuda")
    devices = args.num_gpus if processes == 1 and on_gpus else processes
    memory = free_bytes(cfg.MODEL.DEVICE) / (1 if on_gpus else local)
    cpus = (os.cpu_count() or 1) * (processes // local)
    return cfg, data, plan_training(cfg, data, fixed, memory=memory, devices=devices, cpus=cpus, epochs=args.epochs)


def _settings_among(paths: list[str]) -> list[str]:
    """Remove KEY value pairs from the end of a flag's paths, where argparse has put them, and return them."""
    keys = (re.fullmatch(r"[A-Z]+(\.[A-Z0-9_]+)*", path) and not Path(path).exists() for path in paths)
    first = next((place for place, is_key in enumerate(keys) if is_key), len(paths))
    settings = paths[first:]
    del paths[first:]
    return settings


def _class_names(given: str) -> list[str]:
    if Path(given).is_file():
        return [line.strip() for line in Path(given).read_text(encoding="utf-8").splitlines() if line.strip()]
    return [name.strip() for name in given.split(",") if name.strip()]


def _summary(data: CustomDataset) -> str:
    semantic = data.kind == "semantic"
    of_tracks = data.kind == "video"
    header = [
        "class",
        "id",
        "images that show it" if semantic else "masks" if of_tracks else "objects",
        "mean side (pixels)",
    ]
    rows = []
    for category in data.categories:
        tally = data.report.classes[category["name"]]
        side = round(math.sqrt(tally.pixels / max(1, tally.objects)))
        crowds = [] if semantic else [f"{tally.crowd_share:.0%}"]
        tracks = [data.report.tracks[category["name"]]] if of_tracks else []
        rows.append([category["name"], category["id"], *tracks, tally.objects, side, *crowds])
    if of_tracks:
        header.insert(2, "tracks")
    parts = [f"{one.num_images} {'frames' if of_tracks else 'images'}" for one in (data.train, data.val)]
    if of_tracks:
        parts = [f"{one.num_videos} videos ({part})" for one, part in zip((data.train, data.val), parts, strict=True)]
    return "\n".join(
        [
            f"{data.kind} data: {parts[0]} for training, {parts[1].removesuffix(' images')} for validation, "
            f"{len(data.categories)} class{'es' * (len(data.categories) != 1)}. In the training data:",
            tabulate(rows, header if semantic else [*header, "crowds"]),
            *data.notes,
        ]
    )


def _settings(plan: TrainingPlan) -> str:
    rows = [(choice.key, choice.value, choice.reason) for choice in plan.settings]
    weights = plan.cfg.MODEL.WEIGHTS or "none: from scratch"
    return tabulate(
        [("MODEL.WEIGHTS", weights, ""), ("MODEL.DEVICE", plan.cfg.MODEL.DEVICE, ""), *rows],
        ["setting", "value", "because"],
        disable_numparse=True,
    )
