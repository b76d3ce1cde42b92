"""Check a run's data sets: registered, present, with the configuration's classes and the ground truth to score."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from mask2former.data.datasets.class_folders import class_names
from mask2former.evaluation.build import EVALUATORS
from mask2former.preflight.problem import Problem, problem, warning

HEAD = 1 << 20  # bytes at the beginning of an annotation file in which its first image is looked for
IMAGES = ("image_root", "image_dir")
# Metadata keys of the annotations that training and evaluation read, by task.
TRUTH = {
    "panoptic": ("panoptic_json", "panoptic_root"),
    "instance": ("json_file", "gt_dir"),
    "semantic": ("sem_seg_root", "gt_dir"),
    "classes": ("image_root",),
}

OF_KIND = {"ytvis": "instance", "image_classes": "classes"}  # tasks of data sets that have a mapper of their own


def data_problems(cfg: CfgNode, eval_only: bool) -> Iterator[Problem]:
    """Yield everything that is wrong with ``DATASETS`` for this run."""
    if not eval_only and not cfg.DATASETS.TRAIN:
        yield problem("DATASETS.TRAIN is empty.", "Name a registered data set, or a configuration file that does.")
    if eval_only and not cfg.DATASETS.TEST:
        yield problem("DATASETS.TEST is empty: there is nothing to evaluate on.", "Name a registered data set.")
    for name in () if eval_only else cfg.DATASETS.TRAIN:
        yield from _of_set(cfg, name, [_task(cfg, name)])
    for name in cfg.DATASETS.TEST:
        scored: list[str] = []
        if name in DatasetCatalog:
            yield from _evaluators(cfg, name, scored)
        yield from _of_set(cfg, name, scored)


def _task(cfg: CfgNode, dataset: str) -> str:
    kind = MetadataCatalog.get(dataset).get("evaluator_type") if dataset in DatasetCatalog else ""
    if kind in OF_KIND:
        return OF_KIND[kind]
    name = cfg.INPUT.DATASET_MAPPER_NAME  # contains its task, such as coco_panoptic_lsj
    return next((task for task in TRUTH if task in name), "semantic")


def _of_set(cfg: CfgNode, name: str, tasks: list[str]) -> Iterator[Problem]:
    if name not in DatasetCatalog:
        close = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.5)
        yield problem(
            f"{name}: no data set of that name is registered{'; similar: ' + ', '.join(close) if close else ''}.",
            "Correct DATASETS, or train on files of your own with `mask2former train-custom`.",
        )
        return
    meta = MetadataCatalog.get(name)
    yield from _files(name, meta, tasks)
    yield from _classes(cfg, name, meta)


def _files(name: str, meta: Metadata, tasks: list[str]) -> Iterator[Problem]:
    remedy = "datasets/README.md shows the folders; DETECTRON2_DATASETS names the one above them."
    keys = [*IMAGES, *(key for task in tasks for key in TRUTH[task])]
    if meta.get("subset_of"):  # its panoptic_json is written when the data set is loaded
        keys = ["subset_of" if key == "panoptic_json" else key for key in keys]
    there = True
    for key in dict.fromkeys(keys):
        path = meta.get(key)
        if not path or "://" in path:
            continue
        if not os.path.exists(path):
            there = False
            yield problem(f"{name}: {path} ({key}) is missing.", remedy)
        elif os.path.isdir(path) and not any(os.scandir(path)):
            there = False
            yield problem(f"{name}: the folder {path} ({key}) is empty.", remedy)
    if there:
        yield from _first_image(name, meta, keys)


def _first_image(name: str, meta: Metadata, keys: list[str]) -> Iterator[Problem]:
    for key in ("panoptic_json", "json_file"):
        file = meta.get(key)
        if key not in keys or not file or not meta.get("image_root") or not os.path.isfile(file):
            continue
        with open(file, "rb") as opened:
            head = opened.read(HEAD).decode("utf-8", errors="replace")
        listed = max(head.find('"images"'), head.find('"videos"'))
        found = re.search(r'"file_names?"\s*:\s*\[?\s*"([^"\\]+)"', head[listed:]) if listed >= 0 else None
        if found and not os.path.exists(path := os.path.join(meta.image_root, found[1])):
            yield problem(
                f"{name}: the first image that {file} lists is missing, {path}.",
                f"Put the images into {meta.image_root}.",
            )


def _classes(cfg: CfgNode, name: str, meta: Metadata) -> Iterator[Problem]:
    task, number = _task(cfg, name), cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if task == "classes":
        yield from _class_folders(cfg, name, meta)
        return
    things, stuff = len(meta.get("thing_classes") or ()), len(meta.get("stuff_classes") or ())
    known = {"panoptic": max(things, stuff), "instance": things, "semantic": stuff}[task]
    text = f"{name} has {known} classes ({task}), but MODEL.SEM_SEG_HEAD.NUM_CLASSES is {number}."
    if known > number:
        yield problem(
            text,
            f"Set it to {known}; of weights with another number of classes, everything but the classifier is loaded.",
        )
    elif 0 < known < number:
        yield warning(text, "The classes beyond that are never learnt.")


def _class_folders(cfg: CfgNode, name: str, meta: Metadata) -> Iterator[Problem]:
    folder, number = meta.get("class_root") or "", cfg.MODEL.CLASSIFIER.NUM_CLASSES
    if not os.path.isdir(folder):
        return
    try:
        known = len(class_names(folder))
    except FileNotFoundError as error:
        yield problem(f"{name}: {error}", "datasets/README.md shows the folders.")
        return
    if known != number:
        found = f"{folder} has folders of {known} classes ({name}), but MODEL.CLASSIFIER.NUM_CLASSES is {number}."
        yield problem(found, f"Set it to {known}.")


def _evaluators(cfg: CfgNode, name: str, scored: list[str]) -> Iterator[Problem]:
    """Yield what cannot be scored on a data set; add the tasks that can to ``scored``."""
    meta = MetadataCatalog.get(name)
    kind = meta.get("evaluator_type")
    if kind not in EVALUATORS:
        yield problem(
            f"{name}: its metadata has evaluator_type {kind!r}, for which there is no evaluator.",
            f"Choose one of {', '.join(EVALUATORS)}.",
        )
        return
    lacking = []
    for switch in dict.fromkeys(entry.switch for entry in EVALUATORS[kind]):
        if switch and not cfg.MODEL.MASK_FORMER.TEST[switch]:
            continue
        task = switch.removesuffix("_ON").lower() or OF_KIND[kind]
        # A data set without an annotation file is scored against its records.
        if any(meta.get(key) for key in TRUTH[task]) or (kind, task) == ("coco", "instance"):
            scored.append(task)
        else:
            lacking.append((switch, TRUTH[task][0]))
    for switch, key in lacking if scored else ():
        yield warning(f"MODEL.MASK_FORMER.TEST.{switch}: {name} has no {key}, so this is not scored.", "The rest is.")
    if not scored:
        switches = ", ".join(dict.fromkeys(entry.switch for entry in EVALUATORS[kind] if not entry.wish))
        yield problem(
            f"{name} (evaluator_type {kind}) has nothing to score.",
            f"Set one of MODEL.MASK_FORMER.TEST.{{{switches}}} for which it has ground truth.",
        )
