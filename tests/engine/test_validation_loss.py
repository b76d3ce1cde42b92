"""The loss on validation images: its value, and that the training does not notice it; and why a run scores nothing."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

sys.path.insert(0, str(Path(__file__).parent))
import resuming

from mask2former.config import load_config
from mask2former.data.mapper import Mapper
from mask2former.engine.validation_loss import ValidationLoss
from mask2former.engine.zero_score import likely_reasons, scored_nothing

WITH = ("DATASETS.TEST", f"('{resuming.DATASET}',)", "TEST.EVAL_PERIOD", "4", "INPUT.MIN_SIZE_TEST", "64")


@pytest.fixture(autouse=True)
def _registered(datasets):
    resuming.register(datasets)


class Untested(resuming.NotingTrainer):
    @classmethod
    def test(cls, cfg, model):
        return {"segm": {"AP": 1.0}}


def train(folder, *options):
    trainer = Untested(resuming.configuration(folder, *WITH, *options))
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def test_the_training_does_not_notice_it(tmp_path):
    """Bit by bit: weights, running statistics, moments, images; with dropout and every source of chance."""
    one, other = train(tmp_path / "without"), train(tmp_path / "with", "TEST.LOSS_IMAGES", "3")
    expected = resuming.state(one)
    assert all(torch.equal(value, expected[name]) for name, value in resuming.state(other).items())
    seen = [batch for batch in other.seen if len(batch) > 1]  # the validation's are of one image
    assert seen == one.seen and len(other.seen) == len(one.seen) + 3 * 3
    rows = [json.loads(line) for line in (tmp_path / "with" / "metrics.json").read_text().splitlines()]
    found = {row["iteration"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    assert sorted(found) == [7, 12]  # the writers write every 20 iterations and at the end
    assert "on validation images" in (tmp_path / "with" / "curves.html").read_text()


def test_it_is_the_mean_loss_of_single_images_in_evaluation_mode(small_network, datasets, monkeypatch):
    """Compare with the criterion of the real network, with dropout, computed by hand at the same random points."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    resuming_cfg = load_config(
        str(resuming.QUICKSTART),
        [*small_network, "TEST.LOSS_IMAGES", "3", "DATASETS.TEST", "('validation_loss_set',)", *OF_LABELS],
    )
    register_quickstart_labels()
    torch.manual_seed(0)
    model = build_model(resuming_cfg)
    model.train()
    loss = ValidationLoss(resuming_cfg, model, torch.no_grad)
    state = torch.get_rng_state()
    first, second = loss(), loss()
    assert first == second and torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert first["validation_loss"] == pytest.approx(by_hand(resuming_cfg, model), rel=0.02)
    assert {"validation_loss_ce", "validation_loss_mask", "validation_loss_dice"} < set(first)


OF_LABELS = ["INPUT.DATASET_MAPPER_NAME", "mask_former_semantic", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "12",
             "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "4096"]  # fmt: skip


def register_quickstart_labels():
    if "validation_loss_set" not in DatasetCatalog:
        DatasetCatalog.register("validation_loss_set", lambda: DatasetCatalog.get(resuming.DATASET))


def by_hand(cfg, model):
    """Draw other points, so many that they hardly matter."""
    records = DatasetCatalog.get(resuming.DATASET)
    mapper = Mapper(cfg, True)
    test = Mapper(cfg, False)
    mapper.augmentations = test.augmentations
    model.eval()
    total = 0.0
    with torch.no_grad():
        for place in (0, 1, 2):
            item = mapper(records[place * len(records) // 3])
            prediction, batch = model.predict_raw([item])
            total += sum(model.criterion(prediction, model.prepare_targets([item], batch)).values()).item()
    model.train()
    return total / 3


def test_images_without_targets_are_refused_before_the_training():
    DatasetCatalog.register("validation_loss_bare", lambda: [
        {key: one[key] for key in ("file_name", "height", "width")} for one in DatasetCatalog.get(resuming.DATASET)
    ])  # fmt: skip
    try:
        cfg = resuming.configuration("unused", "DATASETS.TEST", "('validation_loss_bare',)", "TEST.LOSS_IMAGES", "2")
        with pytest.raises(ValueError, match=r"no 'sem_seg_file_name'.*TEST\.LOSS_IMAGES"):
            ValidationLoss(cfg, torch.nn.Linear(1, 1), torch.no_grad)
    finally:
        DatasetCatalog.pop("validation_loss_bare")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({"segm": {"AP": 0.0, "AP50": 0.0}}, True),
        ({"segm": {"AP": float("nan")}}, True),
        ({"segm": {"AP": 0.0, "AP50": 0.1}}, False),
        ({"a": {"segm": {"AP": 0.0}}, "b": {"sem_seg": {"mIoU": 3.0}}}, False),
        ({}, False),
        ({"mine": {"score": 0.0}}, False),
    ],
)
def test_scores_of_nothing(results, expected):
    assert scored_nothing(results) == expected


@pytest.fixture(scope="module")
def untrained(small_network):
    cfg = load_config(str(resuming.QUICKSTART), small_network)
    torch.manual_seed(0)
    return cfg, build_model(cfg)


IMAGES = [[{"image": torch.full((3, 64, 64), 90 * i, dtype=torch.uint8)}] for i in range(3)]


def biased(model, **biases):
    """Let every query say a class, by its logit; 12 is "no object"."""
    layer = model.sem_seg_head.predictor.class_embed
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        for name, value in biases.items():
            layer.bias[int(name[1:])] = value
    return model


def test_reasons_from_the_predictions(untrained):
    cfg, model = untrained
    falls = [5.0 - 0.01 * i for i in range(200)]
    said = "\n".join(likely_reasons(cfg, biased(model, c12=9.0), IMAGES, losses=falls, shown=200.0))
    assert 'Every query says "no object" on 3 images' in said and said.count("\n") == 0
    cfg = cfg.clone()
    cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD = 0.8
    [said] = likely_reasons(cfg, biased(model, c3=1.0), IMAGES, losses=falls, shown=200.0)
    expected = torch.tensor([0.0] * 12 + [1.0]).softmax(0).max()
    assert f"the highest score of a class is {expected:.2f}" in said and "OBJECT_MASK_THRESHOLD is 0.8" in said
    [said] = likely_reasons(cfg, biased(model, c3=9.0), IMAGES, losses=falls, shown=200.0)
    assert "All that is found on 3 images is of class 3" in said


def test_reasons_from_the_losses_and_the_length(untrained):
    cfg, model = untrained
    biased(model, c12=9.0)
    said = "\n".join(likely_reasons(cfg, model, IMAGES, losses=[1.0] * 50 + [4.0] * 50, shown=2.5))
    assert "The loss has not fallen: 1.00 in the first tenth of the training, 4.00 in the last" in said
    assert "are 2.5 passes through the images" in said and "began with random weights" in said


def test_reasons_from_the_classes(untrained):
    cfg, model = (untrained[0].clone(), biased(untrained[1], c12=9.0))
    MetadataCatalog.get("zero_score_train").set(stuff_classes=["a", "b"])
    MetadataCatalog.get("zero_score_val").set(stuff_classes=["b", "a", "c"])
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("zero_score_train",), ("zero_score_val",)
    said = "\n".join(likely_reasons(cfg, model, IMAGES, losses=[], shown=99.0))
    assert "number their classes differently (0: a and b; 1: b and a; 2: None and c)" in said
    assert "NUM_CLASSES is 12, and zero_score_val has 3 classes" in said


def test_a_training_that_scores_nothing_says_why(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(Untested, "test", classmethod(lambda cls, cfg, model: {"sem_seg": {"mIoU": 0.0}}))
    with caplog.at_level(logging.WARNING):
        train(tmp_path)
    assert "All scores are 0. Likely reasons" in caplog.text
    assert "12 iterations are 12.0 passes through the images" in caplog.text
