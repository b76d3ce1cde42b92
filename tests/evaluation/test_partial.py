"""An evaluation that was interrupted goes on, and gives the scores of an uninterrupted one."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

import mask2former  # noqa: F401  (spawned processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.samplers import InferenceSampler
from detectron2.evaluation import DatasetEvaluator
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
import test_report_of_processes as data

from mask2former.config import load_config
from mask2former.engine.evaluation_run import data_digest
from mask2former.engine.interruption import Interrupted
from mask2former.engine.trainer import Trainer
from mask2former.evaluation.partial import PartialEvaluator

NAME, IMAGES = "partial_val", 3


class FixedModel(nn.Module):
    """Predicts by the image's number; a signal comes with image ``stop_at``."""

    def __init__(self, stop_at=None, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.stop_at = stop_at
        self.calls = []

    def forward(self, inputs):
        self.calls += [one["image_id"] for one in inputs]
        if self.stop_at in self.calls:
            os.kill(os.getpid(), signal.SIGTERM)
        return data.predict(inputs)


class PartialTrainer(Trainer):
    @classmethod
    def build_test_loader(cls, cfg, name):
        return build_detection_test_loader(DatasetCatalog.get(name), mapper=lambda record: dict(record), num_workers=0)


@pytest.fixture(scope="module")
def _registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partial")
    data.write_data(folder)
    data.register(folder, NAME)
    yield
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)


def config(folder, *options):
    given = ["MODEL.DEVICE", "cpu", "DATASETS.TEST", f"('{NAME}',)", "OUTPUT_DIR", str(folder), "TEST.KEEP_PERIOD", "1"]
    switches = [f"MODEL.MASK_FORMER.TEST.{task}_ON" for task in ("PANOPTIC", "INSTANCE", "SEMANTIC")]
    return load_config(None, [*given, *(word for switch in switches for word in (switch, "True")), *options])


def evaluate(cfg, model, resume=False):
    return PartialTrainer.test(cfg, model, keep=True, resume=resume)


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_the_scores_are_those_of_an_uninterrupted_evaluation(tmp_path, stop_at, caplog):
    expected = evaluate(config(tmp_path / "whole"), FixedModel())
    plain = PartialTrainer.test(config(tmp_path / "plain"), FixedModel())
    np.testing.assert_equal(plain, expected)
    assert set(expected) == {"panoptic_seg", "bbox", "segm", "sem_seg"}

    cfg = config(tmp_path / "parts")
    with caplog.at_level(logging.WARNING), pytest.raises(Interrupted) as stop:
        evaluate(cfg, FixedModel(stop_at))
    assert stop.value.code == 143
    assert f"{stop_at} of 3 images" in caplog.text and "TEST.RESUME True" in caplog.text
    second = FixedModel()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_equal(evaluate(cfg, second, resume=True), expected)
    assert f"{stop_at} of 3 images ({100 * stop_at / 3:.0f} %) are done" in caplog.text
    assert second.calls == list(range(stop_at + 1, IMAGES + 1))
    for name in ("predictions.json", "coco_instances_results.json", "sem_seg_predictions.json"):
        files = [tmp_path / run / "inference" / name for run in ("whole", "parts")]
        assert json.loads(files[0].read_text()) == json.loads(files[1].read_text())
    assert not (tmp_path / "parts" / "inference" / "partial" / NAME).exists()


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("change", ["weights", "settings", "not asked"])
def test_what_belongs_to_another_evaluation_is_not_added(tmp_path, change, caplog):
    with pytest.raises(Interrupted):
        evaluate(config(tmp_path), FixedModel(stop_at=2))
    options = ("TEST.DETECTIONS_PER_IMAGE", "50") if change == "settings" else ()
    model = FixedModel(weight=2.0 if change == "weights" else 1.0)
    with caplog.at_level(logging.WARNING):
        evaluate(config(tmp_path, *options), model, resume=change != "not asked")
    assert model.calls == [1, 2, 3]
    assert ("from the beginning" in caplog.text) == (change != "not asked")


@pytest.mark.usefixtures("_registered")
def test_evaluators_of_others_start_from_the_beginning(tmp_path, caplog):
    class Counting(DatasetEvaluator):
        def reset(self):
            self.images = 0

        def process(self, inputs, outputs):
            self.images += len(inputs)

        def evaluate(self):
            return {"own": {"images": self.images}}

    with caplog.at_level(logging.WARNING):
        scores = PartialTrainer.test(config(tmp_path), FixedModel(), [Counting()], keep=True, resume=True)
    assert scores == {"own": {"images": 3}} and "cannot be resumed" in caplog.text


class Listing(DatasetEvaluator):
    """Its score is the list of the images that it has counted."""

    def __init__(self):
        self.images = []

    def reset(self):
        self.images = []

    def process(self, inputs, outputs):
        self.images = self.images + list(inputs)

    def evaluate(self):
        return sorted(self.images)

    def counts(self):
        return {"images": self.images}

    def add_counts(self, counts):
        self.images = self.images + counts["images"]


class Run:
    """An evaluation of images 0 to 5, as far as asked."""

    def __init__(self, folder, fingerprint="a" * 64, resume=False, period=2):
        scorer = Listing()
        self.partial = PartialEvaluator(scorer, [scorer], folder, fingerprint=fingerprint, period=period, resume=resume)
        self.images = iter(self.partial.remaining(DataLoader(list(range(6)), batch_size=1, collate_fn=list)))
        self.partial.reset()

    def go_on(self, images):
        for batch in itertools.islice(self.images, images):
            self.partial.process(batch, batch)
        return self

    def finish(self):
        return self.go_on(None).partial.evaluate()


ALL = [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("fingerprint", ["a" * 64, "b" * 64], ids=["same", "other"])
@pytest.mark.parametrize("resume", [False, True])
def test_two_evaluations_in_one_folder_leave_each_other_alone(tmp_path, fingerprint, resume):
    first = Run(tmp_path / "set").go_on(4)
    second = Run(tmp_path / "set", fingerprint, resume)
    assert second.finish() == ALL
    assert first.finish() == ALL
    assert not list(tmp_path.iterdir())


def test_a_run_without_resume_leaves_files_of_before_to_later_ones(tmp_path):
    Run(tmp_path / "set").go_on(4)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json")}
    assert len(before) == 2
    assert Run(tmp_path / "set").finish() == ALL
    assert Run(tmp_path / "set", "b" * 64, resume=True).finish() == ALL
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json")} == before
    assert Run(tmp_path / "set", resume=True).finish() == ALL
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("periods", [(2, 3), (3, 2), (4, 1)])
def test_images_that_two_stopped_runs_have_evaluated_count_once(tmp_path, periods):
    for period in periods:
        Run(tmp_path / "set", period=period).go_on(5)
    third = Run(tmp_path / "set", resume=True)
    assert len(list(third.images)) in (1, 2)  # 5 or 4 images were kept
    assert Run(tmp_path / "set", resume=True).finish() == ALL
    assert not list(tmp_path.iterdir())


def one_of_two(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for resume, images in ((False, 2 - rank), (True, None)):  # the first run ends with images 0, 1 and 3
        scorer = Listing()
        partial = PartialEvaluator(scorer, [scorer], folder / "set", fingerprint="a" * 64, period=1, resume=resume)
        sampler = InferenceSampler(len(ALL))
        loader = partial.remaining(DataLoader(ALL, batch_size=1, sampler=sampler, collate_fn=list))
        partial.reset()
        evaluated = list(itertools.islice(loader, images))
        for batch in evaluated:
            partial.process(batch, batch)
        torch.distributed.barrier()
    scores = {"evaluated": evaluated, "share": partial.share, "scored": partial.evaluate()}
    (folder / f"{rank}.json").write_text(json.dumps(scores))
    torch.distributed.destroy_process_group()


def test_two_processes_go_on_and_count_each_image_once(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["evaluated"] + second["evaluated"] == [[2], [4], [5]]
    assert sorted(first["scored"] + second["scored"]) == ALL
    assert first["share"].startswith("5 of 5") and second["share"].startswith("4 of 4")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"fingerprint": "%s"}' % (b"a" * 64)])
@pytest.mark.parametrize("resume", [False, True])
def test_a_damaged_file_is_named_and_left_out(tmp_path, text, resume, caplog):
    Run(tmp_path / "set").go_on(4)
    damaged, whole = sorted(tmp_path.rglob("*.json"))
    damaged.write_bytes(text)
    second = Run(tmp_path / "set", resume=resume)
    named = [record for record in caplog.records if str(damaged) in record.getMessage()]
    assert len(named) == resume
    assert second.finish() == ALL
    assert damaged.read_bytes() == text and whole.exists() == (not resume)


def test_a_folder_that_cannot_be_written_costs_nothing_but_what_is_kept(tmp_path, caplog):
    (tmp_path / "set").write_text("a file in the way")
    run = Run(tmp_path / "set").go_on(4)
    assert "evaluated again" in caplog.text and len(caplog.records) == 1
    assert run.partial.share == "0 of 6 images (0 %)"
    (tmp_path / "set").unlink()
    run.go_on(1).partial.flush()
    assert run.partial.share == "5 of 6 images (83 %)"
    assert len(list(tmp_path.rglob("*.json"))) == 3
    (content,) = (file for file in tmp_path.rglob("*.json") if "00000004" in file.name)
    assert json.loads(content.read_text())["counts"] == [{"images": [4]}]
    assert run.finish() == ALL

    (tmp_path / "set").write_text("a file in the way")
    assert Run(tmp_path / "set").finish() == ALL


def set_up_worker(number):
    """Do nothing: a loader has to keep it."""


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_of_the_remaining_images_keeps_its_settings(tmp_path, workers):
    given = {
        "batch_size": 2,
        "num_workers": workers,
        "collate_fn": list,
        "pin_memory": True,
        "worker_init_fn": set_up_worker,
        "generator": torch.Generator(),
    }
    if workers:
        context = multiprocessing.get_context("spawn")
        given |= {"multiprocessing_context": context, "prefetch_factor": 7, "persistent_workers": True, "timeout": 9.0}
        given["in_order"] = False
    scorer = Listing()
    partial = PartialEvaluator(scorer, [scorer], tmp_path, fingerprint="a" * 64, period=2, resume=False)
    loader = partial.remaining(DataLoader(ALL, **given))
    assert {key: getattr(loader, key) for key in given} == given


@pytest.fixture
def corrected(tmp_path):
    """A data set whose files a test may change."""
    folder, name = tmp_path / "data", "partial_corrected_val"
    folder.mkdir()
    data.write_data(folder)
    yield folder, name, data.register(folder, name)
    DatasetCatalog.pop(name)
    MetadataCatalog.pop(name)


def correct(folder, records, what):
    """Make a change of the ground truth or of the images."""
    if what == "file name":
        records[0]["file_name"] = f"{folder}/2.png"
    elif what == "labels":
        labels = np.array(Image.open(folder / "labels.png"))
        Image.fromarray(np.roll(labels, 2, axis=0)).save(folder / "labels.png")
    else:
        file = folder / f"{what}.json"
        content = json.loads(file.read_text())
        for one in content["annotations"]:
            for segment in one.get("segments_info", [one]):
                segment["category_id"] = {1: 5, 5: 1}[segment["category_id"]]
        file.write_text(json.dumps(content))


@pytest.mark.parametrize("what", ["panoptic", "instances", "labels", "file name"])
def test_ground_truth_that_was_corrected_meanwhile_is_not_mixed(tmp_path, corrected, what, caplog):
    folder, name, records = corrected
    options = ("DATASETS.TEST", f"('{name}',)")
    old = evaluate(config(tmp_path / "old", *options), FixedModel())
    cfg = config(tmp_path / "parts", *options)
    with pytest.raises(Interrupted):
        evaluate(cfg, FixedModel(stop_at=2))
    correct(folder, records, what)
    expected = evaluate(config(tmp_path / "whole", *options), FixedModel())
    assert (repr(old) == repr(expected)) == (what == "file name")
    model = FixedModel()
    np.testing.assert_equal(evaluate(cfg, model, resume=True), expected)
    assert model.calls == [1, 2, 3] and "from the beginning" in caplog.text


def test_data_may_move_between_stop_and_resume(tmp_path, corrected):
    folder, name, _ = corrected
    digest = data_digest(name)
    shutil.copytree(folder, tmp_path / "moved")
    data.register(tmp_path / "moved", "partial_moved_val")
    moved = data_digest("partial_moved_val")
    DatasetCatalog.pop("partial_moved_val")
    MetadataCatalog.pop("partial_moved_val")
    assert moved == digest
