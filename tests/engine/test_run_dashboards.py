"""What the trainer writes for people to look at: curves while it runs, a report after an evaluation; W&B if asked."""

import itertools
import json
import logging
import re
import sys
import types

import numpy as np
import pytest
import torch
from detectron2.evaluation import DatasetEvaluators, SemSegEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import EventStorage
from torch import nn

from mask2former.config import load_config
from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.collector import Collector
from mask2former.data import register_all
from mask2former.engine import reporting_evaluator
from mask2former.engine.reporting_evaluator import ReportingEvaluator, evaluated_weights, with_report
from mask2former.engine.trainer import Trainer
from mask2former.engine.wandb_writer import build_wandb_writers
from mask2former.evaluation.build import Evaluators, build_evaluator


@META_ARCH_REGISTRY.register()
class DashboardTestModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.backbone = nn.Linear(2, 2)

    def forward(self, batch):
        loss = self.backbone(torch.ones(2)).square().mean()
        return {"loss_ce": loss, "loss_ce_0": 2 * loss}


class FixedTrainer(Trainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat([{}])


def config(folder, *options):
    return load_config(
        None,
        [
            *("MODEL.META_ARCHITECTURE", "DashboardTestModel", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder)),
            *("SOLVER.MAX_ITER", "40", "SOLVER.IMS_PER_BATCH", "1", "DATASETS.TEST", "()", *options),
        ],
    )


def test_curves_are_there_from_the_beginning_to_the_end(tmp_path):
    trainer = FixedTrainer(config(tmp_path))
    seen = []
    run_step = trainer.run_step

    def look_and_run():
        seen.append((tmp_path / "curves.html").read_text())
        run_step()

    trainer.run_step = look_and_run
    trainer.train()
    assert 'data-refresh="15.0"' in seen[0]
    assert "Nothing has been written yet" in seen[0]
    page = (tmp_path / "curves.html").read_text()
    assert 'data-refresh=""' in page
    assert "iteration 40 of 40" in page
    for name in ("total loss", "layer 0", "memory"):
        assert f'"name":"{name}"' in page
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [19, 39]
    assert all(0.01 < row["memory_gib"] < 1000 for row in rows)


@pytest.fixture
def panoptic(datasets, tmp_path, small_network, monkeypatch):
    register_all(str(datasets))
    return lambda *options: load_config(
        "configs/quickstart/panoptic.yaml", [*small_network, "OUTPUT_DIR", str(tmp_path), *options]
    )


def test_evaluation_writes_a_report_of_all_tasks(panoptic, tmp_path):
    cfg = panoptic()
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    page = (tmp_path / "report.html").read_text()
    for words in ("panoptic", "instance", "semantic", "Kinds of errors", "data:image/jpeg", "MASK_FORMER"):
        assert words in page
    assert json.loads((tmp_path / "scores.json").read_text())["panoptic_seg"] == results["panoptic_seg"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["Data set"] == "quickstart_val_panoptic" and run["Command"] and run["Device"]
    assert not list(tmp_path.glob(".*"))


def test_no_report_where_none_is_wanted(panoptic):
    name = "quickstart_val_panoptic"
    cfg = panoptic("TEST.REPORT", "False")
    assert isinstance(with_report(cfg, name, build_evaluator(cfg, name)), DatasetEvaluators)
    cfg = panoptic()
    assert isinstance(with_report(cfg, name, build_evaluator(cfg, name)), ReportingEvaluator)


def test_only_our_evaluators_are_asked(panoptic):
    """The report compares nothing itself: of other evaluators' tasks it has the scores alone, and says so."""
    name = "quickstart_val_panoptic"
    cfg = panoptic("TEST.SEMANTIC_PQ", "True")
    *ours, of_semantic = build_evaluator(cfg, name).members
    reporting = ReportingEvaluator(cfg, name, Evaluators([ours[0], SemSegEvaluator(name), of_semantic]))
    assert reporting.collector.tasks == ["panoptic"]
    assert ours[0].on_image and of_semantic.on_image is None


def score(cfg, *evaluators):
    """Scores of a small network, the same whenever it is asked."""
    torch.manual_seed(0)
    return Trainer.test(cfg, Trainer.build_model(cfg), list(evaluators) or None)


class Broken(RuntimeError):
    pass


def fails(*arguments, **options):
    raise Broken("the printer burns")


@pytest.mark.parametrize("part", ["ClassList.of", "Collector.add", "write_report"])
def test_a_report_that_fails_takes_no_score_with_it(panoptic, tmp_path, monkeypatch, caplog, part):
    caplog.set_level(logging.DEBUG)
    expected = score(panoptic("TEST.REPORT", "False"))
    owner, _, name = part.rpartition(".")
    monkeypatch.setattr({"ClassList": ClassList, "Collector": Collector, "": reporting_evaluator}[owner], name, fails)
    np.testing.assert_equal(score(panoptic()), expected)
    assert not (tmp_path / "report.html").exists()
    (warning,) = [r for r in caplog.records if "the printer burns" in r.getMessage() and r.levelno == logging.WARNING]
    assert re.search(r"The report on quickstart_val_panoptic: .*Broken.*TEST\.REPORT False", warning.getMessage())
    (traced,) = [record for record in caplog.records if record.exc_info and record.exc_info[0] is Broken]
    assert traced.levelno == logging.DEBUG
    if part != "ClassList.of":  # there is nobody to write them where there is no report at all
        assert json.loads((tmp_path / "scores.json").read_text())["panoptic_seg"] == expected["panoptic_seg"]


def test_scores_come_though_their_file_cannot_be_written(panoptic, tmp_path, caplog):
    (tmp_path / "scores.json").mkdir()
    assert score(panoptic())["panoptic_seg"]
    assert re.search(r"The file of the scores: .*IsADirectoryError", caplog.text)
    assert (tmp_path / "report.html").exists()


def test_curves_that_cannot_be_written_do_not_end_the_training(tmp_path, caplog):
    (tmp_path / "curves.html").mkdir()
    trainer = FixedTrainer(config(tmp_path))
    trainer.train()
    assert trainer.iter == 40
    assert len(re.findall("curves.html: left out, because it failed", caplog.text)) == 1


class FakeRun:
    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, row, step):
        self.logged.append((step, row))

    def finish(self):
        self.finished = True


def test_wandb_gets_each_value_once_at_its_iteration(tmp_path, monkeypatch):
    run, calls = FakeRun(), []
    fake = types.SimpleNamespace(init=lambda **facts: calls.append(facts) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (writer,) = build_wandb_writers(config(tmp_path / "first", "WANDB.ENABLED", "True"))
    assert calls[0]["project"] == "mask2former"
    assert calls[0]["name"] == "first"
    assert calls[0]["config"]["SOLVER"]["MAX_ITER"] == 40
    with EventStorage(5) as storage:
        storage.put_scalar("loss", 1.0, smoothing_hint=False)
        writer.write()
        writer.write()
        storage.step()
        storage.put_scalar("loss", 2.0, smoothing_hint=False)
        storage.put_scalar("lr", 0.5, smoothing_hint=False)
        writer.write()
    writer.close()
    assert run.logged == [(5, {"loss": 1.0}), (6, {"loss": 2.0, "lr": 0.5})]
    assert run.finished


def test_wandb_is_left_alone_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert build_wandb_writers(config(tmp_path)) == []
    with pytest.raises(
        ImportError, match=r"WANDB\.ENABLED is true, but the package is not installed: pip install wandb"
    ):
        build_wandb_writers(config(tmp_path, "WANDB.ENABLED", "True"))


def test_evaluated_weights_are_those_of_the_run_while_it_trains() -> None:
    assert evaluated_weights("begin.pth", 90) == "begin.pth"
    with EventStorage(start_iter=41):
        assert evaluated_weights("begin.pth", 90) == "of this run after 42 iterations, started from begin.pth"
        assert evaluated_weights("", 90) == "of this run after 42 iterations"
        assert evaluated_weights("", 41) == "of this run after 41 iterations"  # after the last one
