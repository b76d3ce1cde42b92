"""The trainer with a model of a few parameters: resuming, evaluating once, what it writes and prints."""

import argparse
import itertools
import json
import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from torch import nn

from mask2former.config import load_config
from mask2former.engine.hooks.progress import ProgressHook
from mask2former.engine.logs import NOTICE, setup_run
from mask2former.engine.trainer import Trainer

DATASET = "trainer_test_set"


@META_ARCH_REGISTRY.register()
class TrainerTestModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        torch.manual_seed(3)
        self.backbone = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.queries = nn.Embedding(5, 6)

    def forward(self, batch):
        scores = self.norm(self.backbone(torch.stack([item["image"] for item in batch]))) @ self.queries.weight.T
        losses = {"loss_ce": scores.square().mean(), "loss_mask": scores.sigmoid().mean()}
        return losses | {"loss_ce_0": scores.abs().mean()}


class CountingEvaluator(DatasetEvaluator):
    times = 0

    def reset(self):
        pass

    def process(self, inputs, outputs):
        pass

    def evaluate(self):
        CountingEvaluator.times += 1
        return {"panoptic_seg": {"PQ": 50.0 + CountingEvaluator.times}}


class TinyTrainer(Trainer):
    """The trainer over fixed batches."""

    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat([{"image": torch.linspace(-1, 1, 4) * i} for i in range(1, 4)])

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return [[{"image": torch.ones(4)}]] * 2

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return CountingEvaluator()


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(CountingEvaluator, "times", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)

    def build(folder, *options):
        cfg = load_config(
            None,
            [
                *(
                    "MODEL.META_ARCHITECTURE",
                    "TrainerTestModel",
                    "MODEL.DEVICE",
                    "cpu",
                    "OUTPUT_DIR",
                    str(tmp_path / folder),
                ),
                *("SOLVER.MAX_ITER", "8", "SOLVER.IMS_PER_BATCH", "3", "SOLVER.BASE_LR", "0.01"),
                *("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.CHECKPOINT_PERIOD", "5"),
                *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
                *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.1", "DATASETS.TEST", "()"),
                *options,
            ],
        )
        return TinyTrainer(cfg)

    return build


def train(trainer, resume=False):
    trainer.resume_or_load(resume=resume)
    return trainer.train()


@pytest.mark.parametrize("options", [(), ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16")])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(make, tmp_path, options):
    whole = make("whole", *options)
    train(whole)

    first = make("parts", *options)
    stop = first.run_step

    def run_step_until_5():
        if first.iter == 6:
            raise KeyboardInterrupt
        stop()

    first.run_step = run_step_until_5
    with pytest.raises(KeyboardInterrupt):
        train(first)
    second = make("parts", *options)
    train(second, resume=True)
    assert second.start_iter == 5
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    saved = torch.load(tmp_path / "whole" / "model_final.pth", weights_only=True)
    assert torch.equal(saved["model"]["queries.weight"], whole.model.queries.weight)


def test_a_checkpoint_without_optimiser_state_resumes_with_a_warning(make, tmp_path, caplog):
    """Detectron2 0.6's own trainer writes such checkpoints."""
    train(make("old"))
    for name in ("model_0000004.pth", "last_checkpoint"):
        assert (tmp_path / "old" / name).exists()
    (tmp_path / "old" / "last_checkpoint").write_text("model_0000004.pth")
    state = torch.load(tmp_path / "old" / "model_0000004.pth", weights_only=True)
    del state["trainer"]["_trainer"]
    torch.save(state, tmp_path / "old" / "model_0000004.pth")
    trainer = make("old")
    with caplog.at_level(logging.WARNING):
        trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 5
    assert "holds no optimiser state" in caplog.text


@pytest.mark.parametrize(("period", "times"), [(0, 1), (4, 2), (3, 3)])
def test_evaluation_runs_once_at_the_end(make, period, times):
    MetadataCatalog.get(DATASET)
    results = train(make("eval", "DATASETS.TEST", f"('{DATASET}',)", "TEST.EVAL_PERIOD", period))
    assert CountingEvaluator.times == times
    assert results == {"panoptic_seg": {"PQ": 50.0 + times}}


def test_labels_are_asked_for_where_the_evaluators_can_do_with_them(small_training, monkeypatch):
    """Somebody else's get scores, as ever."""
    seen = {}

    class Watching(CountingEvaluator):
        def process(self, inputs, outputs):
            seen[type(self).__name__] = {key for key in outputs[0] if key.startswith("sem_seg")}

    class WatchingLabels(Watching):
        accepts_label_maps = True

    inputs = [{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}]
    monkeypatch.setattr(Trainer, "build_test_loader", lambda cfg, name: [inputs])
    cfg = load_config(str(small_training / "config.yaml"), ["DATASETS.TEST", f"('{DATASET}',)"])
    model = build_model(cfg)
    for evaluator in (Watching(), WatchingLabels()):
        monkeypatch.setattr(Trainer, "build_evaluator", lambda cfg, name, built=evaluator: built)
        Trainer.test(cfg, model)
    assert seen == {"Watching": {"sem_seg"}, "WatchingLabels": {"sem_seg_labels"}}
    Trainer.test(cfg, model, WatchingLabels())  # one by itself, as Detectron2 takes it


def test_scalars_are_written(make, tmp_path):
    train(make("scalars"))
    lines = [json.loads(line) for line in (tmp_path / "scalars" / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] == 7
    assert {"total_loss", "loss_ce", "loss_ce_0", "lr", "grad_norm", "data_time"} <= set(lines[-1])
    assert list((tmp_path / "scalars").glob("events.out.tfevents*"))


def test_plain_lines_say_how_far_it_is(make, caplog):
    trainer = make("lines")
    next(hook for hook in trainer._hooks if isinstance(hook, ProgressHook))._period = 4
    with caplog.at_level(logging.DEBUG, "mask2former"):
        train(trainer)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("progress")]
    assert [line.split(",")[0] for line in lines] == ["iteration 1/8", "iteration 4/8", "iteration 8/8"]
    for line in lines:
        assert all(part in line for part in ("loss ", "lr ", "images/s", " left", "(ce ", "mask "))
        assert "ce_0" not in line


def test_live_bar_keeps_the_lines_for_the_file(make, caplog, capsys):
    trainer = make("bar")
    progress = next(hook for hook in trainer._hooks if isinstance(hook, ProgressHook))
    progress._live = True
    with caplog.at_level(logging.DEBUG, "mask2former"):
        train(trainer)
    assert "8/8" in capsys.readouterr().err
    assert {record.levelno for record in caplog.records if record.name.endswith("progress")} == {logging.DEBUG}


def test_quiet_runs_say_something_now_and_then(make, caplog):
    trainer = make("quiet")
    progress = next(hook for hook in trainer._hooks if isinstance(hook, ProgressHook))
    progress._period, progress._quiet_seconds = 2, 0.0
    with caplog.at_level(logging.INFO, "mask2former"):
        train(trainer)
    assert [r.levelno for r in caplog.records if r.name.endswith("progress")] == [NOTICE] * 5


def test_quiet_runs_do_not_say_it_all_the_time(make, caplog):
    trainer = make("quieter")
    next(hook for hook in trainer._hooks if isinstance(hook, ProgressHook))._period = 2
    with caplog.at_level(logging.INFO, "mask2former"):
        train(trainer)
    assert [r.levelno for r in caplog.records if r.name.endswith("progress")] == [
        *(NOTICE, logging.INFO, logging.INFO, logging.INFO, NOTICE)
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_terminal_and_log_file(tmp_path, capsys, quiet):
    cfg = load_config(None, ["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"])
    setup_run(cfg, argparse.Namespace(config_file="", eval_only=True), quiet=quiet)
    logger = logging.getLogger("mask2former.somewhere")
    logger.debug("a detail")
    logger.info("a remark")
    logger.log(NOTICE, "a notice")
    for handler in logging.getLogger("mask2former").handlers:
        handler.flush()
    terminal, file = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    assert ("a remark" in terminal) != quiet
    assert "Environment info" in file and "Environment info" not in terminal
    assert "a notice" in terminal
    assert "a detail" not in terminal
    for text in ("a detail", "a remark", "a notice", "Environment info"):
        assert file.count(text) == 1
    assert (tmp_path / "config.yaml").exists()


def test_the_training_set_is_read_by_the_mapper(monkeypatch):
    """FILTER_EMPTY_ANNOTATIONS drops images without objects where there is a list of objects, and only there."""
    monkeypatch.setattr(
        "mask2former.engine.trainer.build_mapper", lambda cfg, is_train, names: lambda item: item | {"seen": is_train}
    )
    common = {"height": 4, "width": 4}
    DatasetCatalog.register(
        "loader_instances",
        lambda: [{**common, "image_id": i, "annotations": [{"category_id": 0}] * i} for i in range(3)],
    )
    DatasetCatalog.register(
        "loader_panoptic", lambda: [{**common, "image_id": i, "segments_info": []} for i in range(3)]
    )
    try:
        for name, keep_empty, expected in (
            ("loader_instances", True, {0, 1, 2}),
            ("loader_instances", False, {1, 2}),
            ("loader_panoptic", False, {0, 1, 2}),
        ):
            cfg = load_config(
                None,
                [
                    *("DATASETS.TRAIN", f"('{name}',)", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", str(not keep_empty)),
                    *("DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2"),
                ],
            )
            batches = list(itertools.islice(iter(Trainer.build_train_loader(cfg)), 12))
            assert {item["image_id"] for batch in batches for item in batch} == expected
            assert all(len(batch) == 2 and item["seen"] for batch in batches for item in batch)
    finally:
        DatasetCatalog.pop("loader_instances")
        DatasetCatalog.pop("loader_panoptic")
