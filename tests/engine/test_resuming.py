"""A resumed training equals the uninterrupted one, bit by bit."""

import itertools
import logging
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch.utils.data import IterableDataset

sys.path.insert(0, str(Path(__file__).parent))
import resuming
from forked import run_forked

from mask2former.data.loader import build_train_loader

GROWING = (
    *("INPUT.PROGRESSIVE.ENABLED", "True", "INPUT.PROGRESSIVE.SIZES", "(0.7, 1.0)"),
    *("INPUT.PROGRESSIVE.SHARES", "(0.6, 0.4)", "INPUT.PROGRESSIVE.SCALE_BATCH", "True"),
    *("INPUT.PROGRESSIVE.SCALE_LR", "True"),
)  # 8 images a step until iteration 7, then 4
FLOAT16 = ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16")


@pytest.fixture(autouse=True)
def _registered(datasets):
    resuming.register(datasets)


def assert_same(one, other):
    assert set(one) == set(other)
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


@pytest.fixture(scope="module")
def whole(datasets, tmp_path_factory):
    """The uninterrupted run, without workers, by its further options."""
    resuming.register(datasets)
    runs = {}

    def run(*options):
        if options not in runs:
            trainer = resuming.train(tmp_path_factory.mktemp("whole"), *options)
            runs[options] = (resuming.state(trainer), trainer.seen)
        return runs[options]

    return run


@pytest.mark.parametrize(
    "options",
    [(), FLOAT16, ("SOLVER.OPTIMIZER", "SGD"), GROWING],
    ids=["float32", "float16", "sgd", "growing images"],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_uninterrupted(whole, tmp_path, workers, options):
    """Killed at iteration 8, resumed from the checkpoint of iteration 6; the workers had prefetched beyond both."""
    expected, images = whole(*options)
    loading = ("DATALOADER.NUM_WORKERS", workers)
    first = resuming.train(tmp_path, *options, *loading, stop_after=8)
    second = resuming.train(tmp_path, *options, *loading, resume=True)
    assert second.start_iter == 6
    assert_same(resuming.state(second), expected)
    steps = 2  # parts of a batch: ACCUMULATE_STEPS
    assert first.seen[: 6 * steps] + second.seen == images
    assert len({name for batch in images for name, _ in batch}) == 4
    assert len({one for batch in images for one in batch}) > 30  # augmented anew each time


@pytest.mark.parametrize("sampler", ["RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"])
def test_other_samplers_and_shapes_go_on_too(tmp_path, sampler, monkeypatch):
    records = [{"width": 9 + number % 2, "height": 9, "annotations": [{"category_id": number % 3}], "id": number}
               for number in range(40)]  # fmt: skip
    cfg = resuming.configuration(
        tmp_path,
        *("DATALOADER.SAMPLER_TRAIN", sampler, "DATALOADER.REPEAT_THRESHOLD", "0.5"),
    )
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5  # 0.6 has no default for it

    def stream(start, seed=3, workers=0):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = resuming.build_train_loader(cfg, lambda record: record | {"draw": torch.rand(()).item()},
                                             dataset=records)  # fmt: skip
        loader.seed, loader.start = seed, start
        return list(itertools.islice(iter(loader), 30))

    batches = stream(0)
    assert stream(17)[:13] == batches[17:]
    assert stream(17, workers=3)[:13] == batches[17:]
    assert stream(0, seed=4) != batches
    for batch in batches:
        assert len({item["width"] for item in batch}) == 1  # wide ones and others apart


def test_images_that_the_mapper_leaves_out_are_replaced_by_the_same_ones(tmp_path):
    cfg = resuming.configuration(tmp_path, "DATALOADER.ASPECT_RATIO_GROUPING", "False")
    records = [{"id": number} for number in range(20)]

    def stream(start, workers):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = resuming.build_train_loader(cfg, lambda record: record if record["id"] % 3 else None, dataset=records)
        loader.start = start
        return [[item["id"] for item in batch] for batch in itertools.islice(iter(loader), 20)]

    batches = stream(0, 0)
    assert all(id_ % 3 for batch in batches for id_ in batch)
    assert stream(5, 2)[:15] == batches[5:]
    with pytest.raises(ValueError, match="None for 1000 images in a row"):
        next(iter(resuming.build_train_loader(resuming.configuration(tmp_path), lambda r: None, dataset=records)))


def test_the_order_is_that_of_detectron2s_sampler(tmp_path):
    """Beside it, with the same seed; only the loader around it is ours."""
    cfg = resuming.configuration(tmp_path, "DATALOADER.ASPECT_RATIO_GROUPING", "False")
    loader = resuming.build_train_loader(cfg, lambda record: record, dataset=list(range(7)))
    found = [index for batch in itertools.islice(iter(loader), 10) for index in batch]
    generator = torch.Generator().manual_seed(11)
    epochs = [torch.randperm(7, generator=generator).tolist() for _ in range(6)]
    assert found == list(itertools.chain(*epochs))[:40]


def test_reading_images_leaves_the_programs_own_random_numbers(tmp_path):
    import random

    import numpy as np

    def draws():
        return random.random(), float(np.random.rand()), torch.rand(()).item()

    def seed():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    loader = resuming.build_train_loader(
        resuming.configuration(tmp_path), lambda r: (*draws(), r), dataset=[{"a": 1}] * 4
    )
    batches = iter(loader)
    next(batches)
    seed()
    expected = draws()
    seed()
    images = {item[:3] for _ in range(3) for item in next(batches)}
    assert draws() == expected
    assert len(images) == 12


def test_a_random_seed_is_kept(tmp_path):
    """SEED -1, Detectron2's default: the resumed run takes the first run's."""
    resuming.train(tmp_path, "SEED", "-1", stop_after=7)
    first, second = (resuming.NotingTrainer(resuming.configuration(tmp_path, "SEED", "-1")) for _ in range(2))
    assert first._trainer.seed != second._trainer.seed
    for trainer in (first, second):
        trainer.resume_or_load(resume=True)
    for trainer in (first, second):
        trainer.train()
    assert_same(resuming.state(first), resuming.state(second))
    assert first.seen == second.seen


def test_another_batch_goes_on_near_the_same_image(tmp_path):
    resuming.train(tmp_path, stop_after=6)
    cfg = resuming.configuration(tmp_path, "SOLVER.IMS_PER_BATCH", "2")
    trainer = resuming.NotingTrainer(cfg)
    trainer.resume_or_load(resume=True)
    assert (trainer.start_iter, trainer.data_loader.start) == (6, 12)  # 24 images


def test_other_loaders_are_told(tmp_path, caplog, monkeypatch):
    resuming.train(tmp_path, stop_after=6)
    cfg = resuming.configuration(tmp_path)
    monkeypatch.setattr(resuming, "build_train_loader", lambda cfg, mapper: itertools.repeat([]))
    with caplog.at_level(logging.WARNING):
        resuming.NotingTrainer(cfg).resume_or_load(resume=True)
    assert "images come from the beginning again" in caplog.text


def worker(rank, root, folder):
    torch.set_num_threads(1)
    resuming.register(Path(root))
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, workers in (("whole", 0), ("parts", 2)):
        options, seen = ("DATALOADER.NUM_WORKERS", workers), []
        if name == "parts":
            seen = resuming.train(f"{folder}/{name}", *options, stop_after=8).seen[: 6 * 2]
            torch.distributed.barrier()
        trainer = resuming.train(f"{folder}/{name}", *options, resume=name == "parts")
        assert trainer.start_iter == (6 if name == "parts" else 0)
        torch.save((resuming.state(trainer), seen + trainer.seen), f"{folder}/{name}{rank}.pth")
    torch.distributed.destroy_process_group()


def test_two_processes(datasets, tmp_path):
    run_forked(worker, (str(datasets), str(tmp_path)))
    saved = {name: torch.load(tmp_path / f"{name}.pth") for name in ("whole0", "whole1", "parts0", "parts1")}
    for rank in "01":
        expected, found = ({**saved[f"{run}{rank}"][0]} for run in ("whole", "parts"))
        if rank == "1":  # a checkpoint has the first process's statistics; in training, nothing depends on them
            for name in ("backbone.1.running_mean", "backbone.1.running_var"):
                del expected[name], found[name]
        assert_same(found, expected)
        assert saved[f"parts{rank}"][1] == saved[f"whole{rank}"][1]
    assert saved["whole0"][1] != saved["whole1"][1]


def test_iterable_data_sets_go_to_detectron2(tmp_path, monkeypatch):
    """Its main branch reads them; its release says that it cannot."""

    class Endless(IterableDataset):
        def __iter__(self):
            return itertools.count()

    monkeypatch.setattr("mask2former.data.loader.build_detection_train_loader", lambda cfg, **given: given)
    cfg, stream = resuming.configuration(tmp_path), Endless()
    given = build_train_loader(cfg, id, dataset=stream, collate_fn=tuple)
    assert given == {"mapper": id, "dataset": stream, "sampler": None, "collate_fn": tuple}
