"""Which files a training leaves, when it ends, and that nothing of an earlier one is lost or mixed up."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import resuming

from mask2former.dashboard.runs import EVALUATED, Run
from mask2former.dashboard.series import Metrics
from mask2former.engine.earlier_runs import set_aside
from mask2former.engine.hooks.best import score_of
from mask2former.engine.hooks.writers import drop_rows_from
from mask2former.engine.logs import setup_run

FINAL = {"model_final.pth", "last_checkpoint", "config.yaml"}


@pytest.fixture(autouse=True)
def _registered(datasets):
    resuming.register(datasets)


class ScoredTrainer(resuming.NotingTrainer):
    """Gets given scores, and notes the weights that it gets them for."""

    scores: ClassVar[list[float]]
    weights: ClassVar[list[torch.Tensor]]

    @classmethod
    def test(cls, cfg, model):
        cls.weights.append(model.state_dict()["head.weight"].clone())
        return {"segm": {"AP": cls.scores[len(cls.weights) - 1], "AP50": 1.0}}


def train(folder, scores, *options, resume=False, stop_after=None):
    ScoredTrainer.scores, ScoredTrainer.weights = scores, []
    trainer = ScoredTrainer(resuming.configuration(folder, "TEST.EVAL_PERIOD", "2", *options))
    return resuming.run(trainer, resume, stop_after)


def weights(file):
    return torch.load(file, weights_only=True)["model"]["head.weight"]


def checkpoints(folder):
    return sorted(file.name for file in folder.glob("model_*.pth"))


def test_the_best_weights_are_kept(tmp_path):
    """Alone, without what belongs to the training; the first of equals; NaN is no score."""
    trainer = train(tmp_path, [1.0, float("nan"), 5.0, 5.0, 2.0, 4.0])
    assert len(ScoredTrainer.weights) == 6  # every 2 of 12 iterations
    assert torch.equal(weights(tmp_path / "model_best.pth"), ScoredTrainer.weights[2])
    assert torch.equal(weights(tmp_path / "model_final.pth"), ScoredTrainer.weights[5])
    assert set(torch.load(tmp_path / "model_best.pth", weights_only=True)) == {"model"}
    noted = json.loads((tmp_path / "best.json").read_text())
    assert noted["metric"] == "mask AP"
    assert noted["scores"] == [[2, 1.0], [4, None], [6, 5.0], [8, 5.0], [10, 2.0], [12, 4.0]]
    assert trainer.checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000011.pth")


def test_a_run_that_is_evaluated_once_has_no_best(tmp_path):
    train(tmp_path, [1.0], "TEST.EVAL_PERIOD", "0")
    assert checkpoints(tmp_path) == ["model_0000005.pth", "model_0000011.pth", "model_final.pth"]


def test_another_metric_and_one_that_is_not_there(tmp_path, caplog):
    train(tmp_path / "other", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "TEST.BEST_METRIC", "segm/AP50")
    assert torch.equal(weights(tmp_path / "other" / "model_best.pth"), ScoredTrainer.weights[0])  # all are 1.0
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "none", [1.0] * 6, "TEST.BEST_METRIC", "PQ")
    assert "TEST.BEST_METRIC 'PQ' is none of the scores" in caplog.text and "segm/AP, segm/AP50" in caplog.text
    assert not (tmp_path / "none" / "model_best.pth").exists()


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({"sem_seg": {"fwIoU": 9.0, "mIoU": 3.0}}, ("mIoU", 3.0)),
        ({"sem_seg": {"mIoU": 3.0}, "segm": {"AP": 2.0}, "panoptic_seg": {"PQ_th": 5.0, "PQ": 1.0}}, ("PQ", 1.0)),
        ({"a": {"segm": {"AP": 2.0}}, "b": {"segm": {"AP": 7.0}}}, ("a: mask AP", 2.0)),
        ({"mine": {"score": 4.0}}, ("mine/score", 4.0)),
        ({}, None),
    ],
)
def test_the_first_score_is_the_one_that_people_compare(results, expected):
    assert score_of(results) == expected


def test_patience_ends_a_training_with_its_final_files(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mask2former"):
        trainer = train(tmp_path, [1.0, 3.0, 2.0, 3.0, 9.0, 9.0], "SOLVER.PATIENCE", "2")
    assert len(ScoredTrainer.weights) == 4 and trainer.iter == 7
    assert "No better score in 2 evaluations (SOLVER.PATIENCE 2): the best was 3.00 after 4 iterations" in caplog.text
    assert checkpoints(tmp_path) == ["model_0000005.pth", "model_0000007.pth", "model_best.pth", "model_final.pth"]
    assert torch.equal(weights(tmp_path / "model_final.pth"), ScoredTrainer.weights[3])
    assert torch.equal(weights(tmp_path / "model_best.pth"), ScoredTrainer.weights[1])
    again = train(tmp_path, [0.5], "SOLVER.PATIENCE", "2", resume=True)  # nothing is left to do but the evaluation
    assert again.start_iter == 8 and not again.seen and len(ScoredTrainer.weights) == 1
    more = train(tmp_path, [9.0, 1.0], "SOLVER.PATIENCE", "3", resume=True)
    assert more.start_iter == 8 and more.iter == 12
    assert torch.equal(weights(tmp_path / "model_best.pth"), ScoredTrainer.weights[0])


def test_best_and_patience_go_on_after_an_interruption(tmp_path):
    """The uninterrupted run has the scores 5, 4, 3, 2, ..., and ends after three without a better one."""
    train(tmp_path, [5.0, 4.0, 3.0], "SOLVER.PATIENCE", "3", stop_after=7)
    first = ScoredTrainer.weights[0]
    second = train(tmp_path, [2.0, 9.0], "SOLVER.PATIENCE", "3", resume=True)
    assert second.start_iter == 6 and second.iter == 7
    assert torch.equal(weights(tmp_path / "model_best.pth"), first)


def test_patience_needs_evaluations(tmp_path):
    with pytest.raises(ValueError, match=r"SOLVER\.PATIENCE 3 counts evaluations, and TEST\.EVAL_PERIOD 0 makes none"):
        train(tmp_path, [], "SOLVER.PATIENCE", "3", "TEST.EVAL_PERIOD", "0")


def test_old_checkpoints_are_removed_and_nothing_else(tmp_path):
    """Across an interruption too."""
    other = ("model_0000000.pth", "model_0049999.pth", "model_mine.pth", "model_last_good.pth")
    for name in other:
        (tmp_path / name).write_bytes(b"mine")
    options = ("SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.KEEP", "2")
    folder = tmp_path / "run"
    train(folder, [1.0] * 6, *options, stop_after=5)
    assert checkpoints(folder) == ["model_0000001.pth", "model_0000003.pth", "model_best.pth"]
    for name in other:
        (tmp_path / name).rename(folder / name)
    train(folder, [1.0] * 6, *options, resume=True)
    assert checkpoints(folder) == sorted(
        [*other, "model_0000009.pth", "model_0000011.pth", "model_best.pth", "model_final.pth"]
    )
    with pytest.raises(ValueError, match=r"SOLVER\.KEEP is -1"):
        train(folder, [], "SOLVER.KEEP", "-1")


def test_a_finished_training_goes_on_for_more_iterations(tmp_path):
    """The state is in the last numbered checkpoint; the weights end up as those of one long run."""
    schedule = ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", "0")
    long = ("SOLVER.MAX_ITER", "16", *schedule)
    whole = train(tmp_path / "whole", [1.0] * 8, *long)
    train(tmp_path / "parts", [1.0] * 8, *long, stop_after=12)
    parts = train(tmp_path / "parts", [1.0] * 8, *long, resume=True)
    assert parts.start_iter == 12
    short = train(tmp_path / "short", [1.0] * 6, *schedule)
    assert short.iter == 12
    longer = train(tmp_path / "short", [1.0] * 2, *long, resume=True)
    assert longer.start_iter == 12 and longer.iter == 16
    assert 12 in rows(tmp_path / "short")  # the score at the first end
    for name, value in resuming.state(whole).items():
        assert torch.equal(resuming.state(parts)[name], value)


def rows(folder):
    return [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]


def test_each_iteration_is_in_the_metrics_once(tmp_path):
    """A killed run has written beyond its checkpoint; and the user may go back further."""
    every = ("SOLVER.CHECKPOINT_PERIOD", "3")
    train(tmp_path / "whole", [1.0] * 6, *every)
    train(tmp_path / "parts", [1.0] * 6, *every)
    (tmp_path / "parts" / "last_checkpoint").write_text("model_0000005.pth")
    second = train(tmp_path / "parts", [2.0] * 6, *every, resume=True)
    assert second.start_iter == 6
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole") and len(set(rows(tmp_path / "parts"))) > 1
    metrics = Metrics(tmp_path / "parts" / "metrics.json")
    metrics.refresh()
    assert metrics.series["segm/AP"].x == [10.0, 12.0] and metrics.series["segm/AP"].y == [2.0, 2.0]


def test_lines_of_iterations_that_come_again_are_dropped(tmp_path):
    file = tmp_path / "metrics.json"
    text = '{"iteration": 19, "a": 1}\n{"a": 2, "iteration": 39}\n{"iteration": 19, "segm/AP": 3}\nnot json\n'
    file.write_text(text)
    assert drop_rows_from(file, 40) == 0 and file.read_text() == text
    assert drop_rows_from(file, 20) == 1
    assert file.read_text() == '{"iteration": 19, "a": 1}\n{"iteration": 19, "segm/AP": 3}\nnot json\n'
    assert drop_rows_from(file, 19, keep_last_scores=True) == 1
    assert file.read_text() == '{"iteration": 19, "segm/AP": 3}\nnot json\n'
    assert drop_rows_from(tmp_path / "none.json", 0) == 0


def test_a_new_training_in_the_same_folder_sets_the_earlier_one_aside(tmp_path, caplog):
    """In a script that knows nothing of it; what is not of a training stays."""
    train(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "SOLVER.MAX_ITER", "12")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model_mine.pth").write_bytes(b"mine")
    first = {name: weights(tmp_path / name) for name in ("model_final.pth", "model_best.pth")}
    with caplog.at_level(logging.WARNING):
        train(tmp_path, [7.0, 8.0], "SOLVER.MAX_ITER", "4", "SEED", "5")
    assert "is moved to" in caplog.text and "--overwrite" in caplog.text
    place = tmp_path / "earlier" / "1"
    assert all(torch.equal(weights(place / name), value) for name, value in first.items())
    assert (place / "last_checkpoint").read_text() == "model_0000011.pth"
    assert max(rows(place)) == 12 and max(rows(tmp_path)) == 4  # the last evaluation's
    assert len(list(place.glob("events.out.tfevents.*"))) == len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert checkpoints(tmp_path) == ["model_0000003.pth", "model_best.pth", "model_final.pth", "model_mine.pth"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [done for done, _ in json.loads((tmp_path / "best.json").read_text())["scores"]] == [2, 4]
    longer = train(place, [9.0], "SOLVER.MAX_ITER", "14", resume=True)  # it can go on there
    assert longer.start_iter == 12


@pytest.mark.parametrize("flag", ["", "resume", "eval_only", "overwrite"])
def test_a_command_sets_it_aside_with_its_configuration(tmp_path, flag):
    """The new training may begin with the earlier one's weights, which then stay where they are too."""
    (tmp_path / "config.yaml").write_text("old")
    for name in ("model_final.pth", "model_0000009.pth"):
        (tmp_path / name).write_bytes(name.encode())
    cfg = resuming.configuration(tmp_path, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth"))
    flags = {name: name == flag for name in ("resume", "eval_only", "overwrite")}
    setup_run(cfg, argparse.Namespace(config_file="", **flags))
    place = tmp_path / "earlier" / "1"
    assert (tmp_path / "model_final.pth").read_bytes() == b"model_final.pth"
    assert (tmp_path / "model_0000009.pth").exists() == (flag in ("resume", "eval_only"))
    assert place.exists() == (flag == "")
    evaluated = tmp_path / "config_evaluated.yaml"  # an evaluation leaves the model's own configuration alone
    assert ((tmp_path / "config.yaml").read_text() == "old") == evaluated.exists() == (flag == "eval_only")
    assert not evaluated.exists() or str(tmp_path / "model_final.pth") in evaluated.read_text()
    if evaluated.exists():
        (tmp_path / "scores.json").write_text("{}")
        assert Run(tmp_path).config["MODEL.WEIGHTS"] == str(tmp_path / "model_final.pth")
    if not flag:
        assert (place / "config.yaml").read_text() == "old" and (tmp_path / "config.yaml").read_text() != "old"
        assert {file.name for file in place.iterdir()} == {"config.yaml", "model_final.pth", "model_0000009.pth"}
        assert set_aside(tmp_path, whole=False) is None  # when the weights are loaded, their second name goes
        assert not (tmp_path / "model_final.pth").exists() and (place / "model_final.pth").exists()


def test_an_evaluation_leaves_the_configuration_that_it_reads_alone(tmp_path):
    """Weights may be elsewhere, and the disk may be full: the file is a person's."""
    file = tmp_path / "config.yaml"
    file.write_text("# mine")
    cfg = resuming.configuration(tmp_path, "TEST.DETECTIONS_PER_IMAGE", "77")
    words = argparse.Namespace(config_file=str(file), eval_only=True, resume=False)
    setup_run(cfg, words)
    assert file.read_text() == "# mine" and not (tmp_path / "metadata.json").exists()
    (tmp_path / "scores.json").write_text("{}")
    assert Run(tmp_path).config["TEST.DETECTIONS_PER_IMAGE"] == 77
    other = tmp_path / "other"
    for number in (77, 78):  # a folder of evaluations alone has the last one's
        cfg = resuming.configuration(other, "TEST.DETECTIONS_PER_IMAGE", str(number))
        setup_run(cfg, words)
        assert f"DETECTIONS_PER_IMAGE: {number}" in (other / "config.yaml").read_text()
    assert not (other / EVALUATED).exists()
    words.eval_only, words.resume = False, True  # a training that goes on evaluates with its own
    setup_run(resuming.configuration(tmp_path), words)
    assert file.read_text() != "# mine" and not (tmp_path / EVALUATED).exists()


def test_folders_without_a_training_are_left_alone(tmp_path):
    for name in ("metrics.json", "scores.json", "model_final_54b88a.pkl", "report.html"):
        (tmp_path / name).write_text("")
    assert set_aside(tmp_path, whole=True) is None
    assert set_aside(tmp_path / "none", whole=True) is None
    assert len(list(tmp_path.iterdir())) == 4
