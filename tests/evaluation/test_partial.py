"""An evaluation that was interrupted goes on, and gives the scores of an uninterrupted one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

import mask2former  # noqa: F401  (spawned processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
import test_report_of_processes as data

from mask2former.config import load_config
from mask2former.engine.evaluation_run import data_digest
from mask2former.engine.interruption import Interrupted
from mask2former.engine.trainer import Trainer

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
@pytest.mark.parametrize("change", ["weights", "settings", "engine", "not asked"])
def test_what_belongs_to_another_evaluation_is_not_added(tmp_path, change, caplog):
    with pytest.raises(Interrupted):
        evaluate(config(tmp_path), FixedModel(stop_at=2))
    options = ("TEST.DETECTIONS_PER_IMAGE", "50") if change == "settings" else ()
    model = FixedModel(weight=2.0 if change == "weights" else 1.0)
    if change == "engine":
        model.engine = SimpleNamespace(name="openvino 0123")  # its results are not quite PyTorch's
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
