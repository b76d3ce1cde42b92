#!/usr/bin/env python3
"""Train on custom data without writing code: from images to scores. ``--help`` shows how."""

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
from tabulate import tabulate

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.config import ConfigError
from mask2former.config.command_line import add_aliases, add_overwrite, aliased
from mask2former.custom import CustomDataset, DataError, build_dataset, open_data
from mask2former.custom.model import configuration, settings
from mask2former.custom.plan import TrainingPlan, plan_training
from mask2former.data.images.limits import set_max_pixels
from mask2former.engine.interruption import signals_to_children
from mask2former.engine.logs import setup_run
from mask2former.engine.trainer import Trainer
from mask2former.predictor.resolve_model import weights_of
from mask2former.preflight.memory import free_bytes
from mask2former.preflight.preflight import check_run

EXAMPLES = """
the data, in one of these forms:
  objects (COCO):        --train annotations.json images/
  panoptic (COCO):       --train panoptic.json images/ panoptic_pngs/
  classes of pixels:     --train images/ labels/    (label files named as the images, holding class numbers)
  one folder:            --data FOLDER              (of Roboflow, CVAT, labelme, YOLO, Pascal VOC, or colour masks)

examples:
  See what would be done, and train nothing:
    train_custom.py --train train.json images/ --val val.json images/ --model coco/instance/r50 --dry-run
  Train from published weights, evaluate, and write everything to output/cats:
    train_custom.py --train train.json images/ --val val.json images/ --model coco/instance/r50 --output output/cats
  A small network, for a CPU (with ImageNet weights from the package registry; --from-scratch without):
    train_custom.py --train images/ labels/ --classes sky,grass,road --model small
  Any setting, as KEY value pairs at the end; the rules that depend on it follow:
    train_custom.py --train train.json images/ --model coco/instance/swin SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 5000
  Go on after an interruption, or evaluate again: the same command with --resume, or with --eval-only.

docs/custom-data.md tells the rules, and what to do when something is wrong.
"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description="Train on custom data: checks them, chooses the settings with reasons, trains, and evaluates.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--train", "--data", nargs="+", required=True, metavar="PATH", help="images and annotations")
    result.add_argument("--val", nargs="+", metavar="PATH", help="the same for validation [a share of --train]")
    result.add_argument("--model", default="coco/instance/r50", help="of the zoo, small, or small_r18 [%(default)s]")
    start = result.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="FILE", help="to begin with [the published ones of --model]")
    start.add_argument("--from-scratch", action="store_true", help="begin with random weights")
    result.add_argument("--output", default="output/own", help="folder for all that is written [%(default)s]")
    result.add_argument("--classes", default="", metavar="A,B,C|FILE", help="names of the classes in label files")
    result.add_argument("--ignore-label", type=int, default=255, metavar="N", help="in label files; -1: none [255]")
    result.add_argument("--dry-run", action="store_true", help="show data and settings, train nothing")
    result.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --output")
    add_overwrite(result)
    result.add_argument("--eval-only", action="store_true", help="evaluate --output's best weights, or --weights")
    result.add_argument("--num-gpus", type=int, default=1, help="[%(default)s]")
    result.add_argument("--quiet", action="store_true", help="on the terminal only progress, scores and warnings")
    add_aliases(result)
    result.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY value", help="settings, after all flags")
    return result


def run(cfg: CfgNode, data: CustomDataset, args: argparse.Namespace) -> None:
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    args = parser().parse_args(arguments)
    for paths in (args.train, args.val or []):
        args.opts = [*_settings_among(paths), *args.opts]
    # setup_run passes it to Detectron2, which logs the file.
    args.config_file = ""
    try:
        args.opts = [*aliased(args), *args.opts]
        if args.imgsz is not None and "INPUT.MIN_SIZE_TEST" not in args.opts:  # the other sizes follow
            args.opts = ["INPUT.MIN_SIZE_TEST", str(args.imgsz), *args.opts]
        with tempfile.TemporaryDirectory() as folder:
            # A dry run leaves nothing behind.
            cfg, data, plan = _prepare(args, Path(folder) if args.dry_run else Path(args.output, "data"))
        print(_summary(data), _settings(plan), sep="\n\n", flush=True)
        if args.dry_run:
            return 0
        check_run(cfg, eval_only=args.eval_only, resume=args.resume, num_gpus=args.num_gpus)
    except (DataError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cfg.freeze()
    with signals_to_children() if args.num_gpus > 1 else nullcontext():
        launch(run, args.num_gpus, dist_url="auto", args=(cfg, data, args))
    print(
        f"\nEverything is in {args.output}. To look at: {args.output}/report.html, {args.output}/curves.html\n"
        "On an image of your own:\n"
        f"  from mask2former import Predictor; Predictor('{args.output}')('image.jpg').save('out.png')"
    )
    return 0


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
    devices = args.num_gpus if cfg.MODEL.DEVICE.startswith("cuda") else 1
    memory = free_bytes(cfg.MODEL.DEVICE)
    return (
        cfg,
        data,
        plan_training(cfg, data, fixed, memory=memory, devices=devices, cpus=os.cpu_count() or 1, epochs=args.epochs),
    )


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
    header = ["class", "id", "images that show it" if semantic else "objects", "mean side (pixels)"]
    rows = []
    for category in data.categories:
        tally = data.report.classes[category["name"]]
        side = round(math.sqrt(tally.pixels / max(1, tally.objects)))
        crowds = [] if semantic else [f"{tally.crowd_share:.0%}"]
        rows.append([category["name"], category["id"], tally.objects, side, *crowds])
    return "\n".join(
        [
            f"{data.kind} data: {data.train.num_images} images for training, {data.val.num_images} for validation, "
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


if __name__ == "__main__":
    sys.exit(main())
