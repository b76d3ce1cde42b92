"""An evaluation that was interrupted goes on, and gives the scores of an uninterrupted one."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
import test_report_of_processes as data

from mask2former.config import load_config
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
