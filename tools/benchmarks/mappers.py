"""`benchmark.py data`: time both mappers, and their parts, on the same images with the same random draws."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog

from benchmarks import drawn_data, plain_mapper
from benchmarks.plain_mapper import PlainMapper
from mask2former.config import add_maskformer2_config
from mask2former.data import Mapper, register_all
from mask2former.data.datasets.readers import read_coco_instances
from mask2former.data.mapper import mapper
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.measure.timing import Patience, Statistics, by_processor_time, take_turns

Record = dict[str, Any]
JITTER = 1024
LONGEST, CROP = 2048, 512
SHORT_SIDES = (256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024)
PARTS = ("image", "annotation", "augment", "masks", "rest")


@dataclass(frozen=True)
class Case:
    """Images of one kind.

    Attributes:
        task: "instance" and "panoptic" by large-scale jitter to 1024 pixels, "semantic" by resize and crop to 512.
        records: data set dicts.
    """

    name: str
    task: str
    classes: int
    records: list[Record]


@dataclass(frozen=True)
class Row:
    """Both mappers' mean seconds of the processor per image.

    Attributes:
        masks: mean number of masks left in an image.
        parts, plain_parts: by name of the part; they add up to an image.
        handed: to hand the image over from a worker process, which is the same for both.
    """

    case: str
    task: str
    images: int
    masks: float
    ours: Statistics
    plain: Statistics
    parts: dict[str, float]
    plain_parts: dict[str, float]
    handed: float

    @property
    def ratio(self) -> float:
        return self.plain.median / self.ours.median


def measure(case: Case, patience: Patience) -> Row:
    """Time both mappers on a case.

    Raises:
        AssertionError: their results differ.
    """
    ours, plain = build(case)
    masks, handed = 0, 0.0
    for seed, record in enumerate(case.records):
        result = call(ours, record, seed)
        assert_same(result, call(plain, record, seed), f"{case.name}, {record['file_name']}")
        masks += len(result["instances"])
        started = time.process_time()
        ForkingPickler.dumps(result)  # puts tensors into shared memory, as a worker of a data loader does
        handed += time.process_time() - started
    count = len(case.records)
    times = take_turns(
        {
            "ours": by_processor_time(lambda: all_of(ours, case)),
            "plain": by_processor_time(lambda: all_of(plain, case)),
        },
        patience,
        torch.device("cpu"),
    )
    return Row(
        *(case.name, case.task, count, masks / count),
        *(times[name, 1].scaled(1 / count) for name in ("ours", "plain")),
        *(parts_of(one, case) for one in (ours, plain)),
        handed / count,
    )


def build(case: Case) -> tuple[Mapper, PlainMapper]:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = case.classes
    cfg.INPUT.FORMAT, cfg.INPUT.IMAGE_SIZE = "RGB", JITTER
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic" if case.task == "semantic" else f"coco_{case.task}_lsj"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.SIZE_DIVISIBILITY = SHORT_SIDES, LONGEST, CROP
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [CROP, CROP]
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
    by_crop = case.task == "semantic"
    augmentations = plain_mapper.crop(SHORT_SIDES, LONGEST, CROP) if by_crop else plain_mapper.jitter(JITTER)
    return Mapper(cfg, True), PlainMapper(case.task, augmentations)


def call(one: Callable[[Record], Record], record: Record, seed: int) -> Record:
    np.random.seed(seed)
    return one(record)


def all_of(one: Callable[[Record], Record], case: Case) -> None:
    for seed, record in enumerate(case.records):
        call(one, record, seed)


def assert_same(ours: Record, plain: Record, where: str) -> None:
    one, other = ours["instances"], plain["instances"]
    same = (
        torch.equal(ours["image"], plain["image"])
        and torch.equal(one.gt_classes, other.gt_classes)
        and torch.equal(one.gt_masks.tensor, other.gt_masks.tensor)
    )
    if not same:
        raise AssertionError(f"{where}: the two mappers differ.")


def parts_of(one: Mapper | PlainMapper, case: Case, rounds: int = 3) -> dict[str, float]:
    """Return the mean seconds per image by part."""
    spent: Counter[str] = Counter()
    with _clocks(one, spent):
        started = time.process_time()
        for _ in range(rounds):
            all_of(one, case)
        total = time.process_time() - started
    spent["rest"] = total - sum(spent.values())
    return {part: spent[part] / rounds / len(case.records) for part in PARTS}


@contextmanager
def _clocks(one: Mapper | PlainMapper, spent: Counter[str]) -> Iterator[None]:
    """Replace the functions of each part by ones that add up its time; none of them calls another."""
    if isinstance(one, Mapper):
        places = [
            (mapper, "read_image", "image"),
            (one, "read_targets", "annotation"),
            (mapper.SegmentationInput, "pixels", "augment"),
            (MaskAnnotations, "to_masks", "masks"),
        ]
    else:
        places = [
            (one, "read", "image"),
            (one, "augment", "augment"),
            (one, "instance_mask", "masks"),
            (one, "segment_mask", "masks"),
        ]
    with ExitStack() as stack:
        for owner, name, part in places:
            stack.enter_context(mock.patch.object(owner, name, _timed(getattr(owner, name), part, spent)))
        yield


def _timed(function: Callable[..., Any], part: str, spent: Counter[str]) -> Callable[..., Any]:
    def run(*arguments: Any, **keywords: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **keywords)
        finally:
            spent[part] += time.process_time() - started

    return run


def drawn_cases(sizes: Sequence[tuple[int, int]], counts: Sequence[int], images: int) -> Iterator[Case]:
    """Yield cases of outlines, run lengths, segments and classes for each size (H, W) and number of objects."""
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            for objects in counts:
                records = [
                    drawn_data.draw(Path(folder), f"{size[0]}_{objects}_{n}", size, objects, n) for n in range(images)
                ]
                runs = [{**record, "annotations": record["runs"]} for record in records]
                name = f"{size[1]}x{size[0]}, {objects} objects"
                for kind, task, chosen in (
                    (", outlines", "instance", records),
                    (", run lengths", "instance", runs),
                    ("", "panoptic", records),
                    ("", "semantic", records),
                ):
                    yield Case(name + kind, task, drawn_data.CLASSES, chosen)


def real_cases(root: Path, images: int) -> Iterator[Case]:
    """Yield cases of the data sets below ``root``."""
    register_all(str(root))
    things = DatasetCatalog.get("coco_sample_panoptic") if (root / "coco_sample").is_dir() else []
    if things:
        file = root / "coco_sample" / "annotations" / "instances_examples.json"
        ids = {category["id"]: i for i, category in enumerate(json.loads(file.read_text())["categories"])}
        instances = read_coco_instances(str(file), str(root / "coco_sample" / "images"), ids)
        yield Case("COCO's two", "instance", len(ids), instances)
        yield Case("COCO's two", "panoptic", 133, things)
    for name, task, classes in (
        ("nuclei_train_instance", "instance", 1),
        ("nuclei_train_panoptic", "panoptic", 2),
        ("camvid_train_sem_seg", "semantic", 11),
    ):
        if (root / name.split("_")[0]).is_dir():
            records = DatasetCatalog.get(name)
            yield Case(name.split("_")[0], task, classes, records[:: max(1, len(records) // images)][:images])
