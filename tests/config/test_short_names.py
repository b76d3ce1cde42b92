"""Flags by the names of other trainers: which keys they set, and that they do not compete with the keys."""

from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog

from mask2former.config import ConfigError, load_config
from mask2former.config.command_line import aliased, set_epochs, set_image_size
from mask2former_cli.train import parser

LSJ = "configs/coco/panoptic/r50.yaml"


def parsed(*words):
    return parser("train_net.py").parse_args(["--config-file", "", *words])


def test_each_flag_sets_its_key():
    args = parsed(
        "--batch", "6", "--lr", "3e-4", "--device", "cpu", "--seed", "5", "--patience", "7", "TEST.AUG.FLIP", "1"
    )
    cfg = load_config(None, aliased(args))
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.MODEL.DEVICE) == (6, 0.0003, "cpu")
    assert (cfg.SEED, cfg.SOLVER.PATIENCE) == (5, 7)
    assert aliased(parsed("SOLVER.MAX_ITER", "3")) == [] and args.opts == ["TEST.AUG.FLIP", "1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lr", "0.1", "SOLVER.BASE_LR", "0.2"], "--lr and SOLVER.BASE_LR on the command line set the same"),
        (["--epochs", "2", "SOLVER.MAX_ITER", "9"], "--epochs and SOLVER.MAX_ITER"),
        (["--epochs", "0"], "--epochs is 0.0; it has to be above 0"),
        (["--batch", "-1"], "--batch is -1"),
        (["--epochs", "nan"], "--epochs is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        aliased(parsed(*words))


@pytest.fixture
def seven_images():
    DatasetCatalog.register("short_names_seven", lambda: [{"file_name": str(i), "image_id": i} for i in range(7)])
    yield
    DatasetCatalog.pop("short_names_seven")


@pytest.mark.usefixtures("seven_images")
@pytest.mark.parametrize(("epochs", "batch", "expected"), [(4, 2, 14), (3, 4, 6), (0.5, 2, 2), (10, 7, 10)])
def test_epochs_are_passes_through_the_images(epochs, batch, expected):
    """A training of 90 iterations with falls at 60 and 80 keeps them at these shares."""
    cfg = load_config(None, ["DATASETS.TRAIN", "('short_names_seven',)", "SOLVER.IMS_PER_BATCH", str(batch),
                             "SOLVER.MAX_ITER", "90", "SOLVER.STEPS", "(60, 80)"])  # fmt: skip
    line = set_epochs(cfg, epochs, [])
    assert expected == cfg.SOLVER.MAX_ITER
    assert tuple(max(1, round(step * expected / 90)) for step in (60, 80)) == cfg.SOLVER.STEPS
    assert f"SOLVER.MAX_ITER {expected}, for 7 images of short_names_seven" in line


def test_epochs_of_data_that_are_not_there():
    cfg = load_config(None, ["DATASETS.TRAIN", "('short_names_none',)"])
    with pytest.raises(ConfigError, match=r"--epochs counts the training images.*short_names_none"):
        set_epochs(cfg, 2, [])


def test_sizes_follow_in_proportion():
    options = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(512, 1024)"]
    options += ["INPUT.MIN_SIZE_TRAIN", "(512, 1024)", "INPUT.MAX_SIZE_TRAIN", "4096"]
    cfg = load_config(None, [*options, "INPUT.MIN_SIZE_TEST", "1024", "INPUT.MAX_SIZE_TEST", "2048"])
    line = set_image_size(cfg, 256, ["INPUT.MAX_SIZE_TEST", "2048"])
    inputs = cfg.INPUT
    assert tuple(inputs.CROP.SIZE) == (128, 256) and tuple(inputs.MIN_SIZE_TRAIN) == (128, 256)
    assert (inputs.MAX_SIZE_TRAIN, inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST) == (1024, 256, 2048)
    assert inputs.SIZE_DIVISIBILITY == -1  # off
    assert "--imgsz 256, instead of 1024" in line and "INPUT.MAX_SIZE_TEST" not in line


def test_large_scale_jitter():
    cfg = load_config(LSJ)
    set_image_size(cfg, 512, [])
    assert (cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SIZE_TEST) == (512, 400)
