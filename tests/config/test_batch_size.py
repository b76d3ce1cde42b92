"""Another batch size: learning rate, iterations, and parts of a batch."""

import sys
from pathlib import Path

import pytest

from mask2former.config import load_config
from mask2former.config.batch_size import scale_to_batch
from mask2former_cli.train import parser

ROOT = Path(__file__).parents[2]


def config(**values):
    defaults = {"BASE_LR": 0.4, "MAX_ITER": 1000, "STEPS": "(600, 900)", "WARMUP_ITERS": 10, "CHECKPOINT_PERIOD": 50}
    options = [word for key, value in (defaults | values).items() for word in (f"SOLVER.{key}", str(value))]
    return load_config(None, ["MODEL.DEVICE", "cpu", "TEST.EVAL_PERIOD", "0", *options])


@pytest.mark.parametrize(("batch", "rate", "iterations"), [(4, 0.1, 4000), (16, 0.4, 1000), (64, 1.6, 250)])
def test_linear_rule(batch, rate, iterations):
    cfg = config(IMS_PER_BATCH=batch)
    scale_to_batch(cfg, 16)
    assert pytest.approx(rate) == cfg.SOLVER.BASE_LR
    assert iterations == cfg.SOLVER.MAX_ITER
    assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH == 16000  # images seen
    assert (0.6 * iterations, 0.9 * iterations) == cfg.SOLVER.STEPS
    assert cfg.TEST.EVAL_PERIOD == 0  # never stays never


def test_little_warm_up_stays_some():
    cfg = config(IMS_PER_BATCH=640)
    scale_to_batch(cfg, 16)
    assert cfg.SOLVER.WARMUP_ITERS == 1


def test_what_was_given_is_left():
    cfg = config(IMS_PER_BATCH=8)
    words = scale_to_batch(cfg, 16, given=["SOLVER.MAX_ITER"])
    assert cfg.SOLVER.MAX_ITER == 1000
    assert words.startswith("8 images a step instead of 16: SOLVER.BASE_LR 0.4 -> 0.2, ")
    assert "MAX_ITER" not in words


def test_command_line():
    sys.path.insert(0, str(ROOT))
    try:
        import train_net
    finally:
        sys.path.remove(str(ROOT))
    words = ["--config-file", str(ROOT / "configs/coco/panoptic/r50.yaml"), "--scale-lr", "SOLVER.IMS_PER_BATCH", "4"]
    plain = load_config(words[1])
    cfg = train_net.read_config(parser("train_net.py").parse_args(words))
    assert cfg.SOLVER.IMS_PER_BATCH == 4
    assert pytest.approx(plain.SOLVER.BASE_LR / 4) == cfg.SOLVER.BASE_LR
    assert cfg.SOLVER.MAX_ITER == 4 * plain.SOLVER.MAX_ITER
