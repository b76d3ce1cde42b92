"""Images that grow while a training goes on: the schedule, the batches, the sizes and the learning rate."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.data.loader import build_train_loader
from mask2former.data.mapper import Mapper
from mask2former.data.mapper.bad_images import BadImages, InPlaceOfBad
from mask2former.data.progressive import at_size, build_stages, stage_at
from mask2former.engine.optimizer import build_lr_scheduler

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart" / "panoptic.yaml"


def configuration(*options: object, sizes: str = "[0.5, 0.75, 1.0]", shares: str = "[0.5, 0.2, 0.3]") -> CfgNode:
    node = "INPUT.PROGRESSIVE."
    own = [node + "ENABLED", "True", node + "SIZES", sizes, node + "SHARES", shares]
    fixed = ["SOLVER.MAX_ITER", "10", "SOLVER.IMS_PER_BATCH", "4", "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]
    return load_config(str(CONFIG), [*fixed, *own, *map(str, options)])


def test_schedule() -> None:
    stages = build_stages(configuration())
    assert [tuple(stage) for stage in stages] == [(0, 0.5, 4), (5, 0.75, 4), (7, 1.0, 4)]
    assert [stage_at(stages, i).size for i in range(12)] == [0.5] * 5 + [0.75] * 2 + [1.0] * 5
    larger = build_stages(configuration("INPUT.PROGRESSIVE.SCALE_BATCH", True, "SOLVER.ACCUMULATE_STEPS", 2))
    assert [stage.batch for stage in larger] == [16, 6, 4]  # 4 / 0.75^2 is 7.1; two parts of 3
    assert [tuple(stage) for stage in build_stages(load_config(str(CONFIG)))] == [(0, 1.0, 8)]


@pytest.mark.parametrize(
    ("sizes", "shares", "words"),
    [
        ("[0.5, 1.0]", "[1.0]", "each size needs a share"),
        ("[0.5, 0.8]", "[0.5, 0.5]", "end with 1"),
        ("[2.0, 1.0]", "[0.5, 0.5]", "at most 1"),
        ("[0.5, 1.0]", "[0.5, 0.4]", "sum up to 1"),
        ("[0.5, 1.0]", "[0.0, 1.0]", "above 0"),
    ],
)
def test_what_is_no_schedule_is_refused(sizes: str, shares: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_stages(configuration(sizes=sizes, shares=shares))


def test_sizes_of_both_recipes() -> None:
    cfg = load_config(str(CONFIG))
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = 1024, (384, 512), 1000
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE, cfg.INPUT.SIZE_DIVISIBILITY = "absolute", [256, 320], 512
    half = at_size(cfg, 0.5).INPUT
    assert (half.IMAGE_SIZE, half.MIN_SIZE_TRAIN, half.MAX_SIZE_TRAIN) == (512, (192, 256), 500)
    assert (half.CROP.SIZE, half.SIZE_DIVISIBILITY) == ([128, 160], 256)
    assert at_size(cfg, 1.0) is cfg and cfg.INPUT.IMAGE_SIZE == 1024
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE, cfg.INPUT.SIZE_DIVISIBILITY = "relative_range", [0.5, 0.5], -1
    assert (at_size(cfg, 0.5).INPUT.CROP.SIZE, at_size(cfg, 0.5).INPUT.SIZE_DIVISIBILITY) == ([0.5, 0.5], -1)


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "in place of bad images"])
@pytest.mark.parametrize("preset", ["mask_former_panoptic", "coco_panoptic_lsj"])
def test_images_and_batches_grow(datasets: Path, tmp_path: Path, preset: str, skip: bool) -> None:
    """From any iteration on, with workers or without; 64 is the size of the images' short side."""
    register_all(str(datasets))
    cfg = configuration(
        *("INPUT.DATASET_MAPPER_NAME", preset, "INPUT.IMAGE_SIZE", 64, "INPUT.MIN_SIZE_TRAIN", "(64,)", "SEED", 3),
        *("INPUT.PROGRESSIVE.SCALE_BATCH", True, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False),
    )
    mapper: Any = Mapper(cfg, True)
    if skip:
        images = BadImages.of(str(tmp_path))
        mapper = InPlaceOfBad(mapper, DatasetCatalog.get("quickstart_train_panoptic"), images)
    loader = build_train_loader(cfg, mapper)
    batches = list(itertools.islice(iter(loader), 10))
    sides = [{tuple(item["image"].shape[1:]) for item in batch} for batch in batches]
    middle = (64, 64) if preset == "coco_panoptic_lsj" else (48, 48)  # squares are multiples of 32
    assert sides == [{(32, 32)}] * 5 + [{middle}] * 2 + [{(64, 64)}] * 3
    assert [len(batch) for batch in batches] == [16] * 5 + [7] * 2 + [4] * 3
    for start, workers in ((3, 0), (6, 2), (8, 0)):
        loader.start, loader.num_workers = start, workers
        for one, other in zip(iter(loader), batches[start:], strict=False):
            assert all(torch.equal(a["image"], b["image"]) for a, b in zip(one, other, strict=True))


def test_wide_and_high_images_stay_apart() -> None:
    """Those that wait when smaller batches begin are not lost."""
    records = [{"width": 9 + number % 2, "height": 9, "id": number} for number in range(40)]
    cfg = configuration("INPUT.PROGRESSIVE.SCALE_BATCH", True, "SEED", 5)

    class Own:
        def at_size(self, size: float) -> Any:
            return lambda record: record | {"size": size}

        def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
            return record | {"size": 1.0}

    batches = list(itertools.islice(iter(build_train_loader(cfg, Own(), dataset=records)), 30))
    assert [len(batch) for batch in batches] == [16] * 5 + [7] * 2 + [4] * 23
    assert all(len({(item["width"], item["size"]) for item in batch}) == 1 for batch in batches)
    plain = configuration("SEED", 5)
    plain.INPUT.PROGRESSIVE.ENABLED = False
    order = [item["id"] for batch in itertools.islice(iter(build_train_loader(plain, Own(), dataset=records)), 60)
             for item in batch]  # fmt: skip
    for width in (9, 10):
        found = [item["id"] for batch in batches for item in batch if item["width"] == width]
        assert found == [number for number in order if 9 + number % 2 == width][: len(found)]


def test_other_mappers_are_refused() -> None:
    with pytest.raises(ValueError, match="at_size"):
        build_train_loader(configuration(), lambda record: record, dataset=[{"a": 1}])
    with pytest.raises(ValueError, match=r"0\.25 is none"):
        Mapper(configuration(), True).at_size(0.25)


def test_the_learning_rate_follows() -> None:
    def rates(*options: object) -> list[float]:
        cfg = configuration(*options, "INPUT.PROGRESSIVE.SCALE_BATCH", True, "SOLVER.WARMUP_ITERS", 0)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = build_lr_scheduler(cfg, optimizer)
        found = []
        for _ in range(10):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    plain, scaled = rates(), rates("INPUT.PROGRESSIVE.SCALE_LR", True)
    factors = [one / other for one, other in zip(scaled, plain, strict=True)]
    assert factors == pytest.approx([2.0] * 5 + [(7 / 4) ** 0.5] * 2 + [1.0] * 3)
    with pytest.raises(ValueError, match="WarmupPolyLR"):
        rates("INPUT.PROGRESSIVE.SCALE_LR", True, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR")
