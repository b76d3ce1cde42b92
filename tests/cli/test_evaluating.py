"""``mask2former train`` and ``evaluate`` in this process: names, folders, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mask2former.cli import evaluate, train
from mask2former_cli.main import main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list:
    """What a training would begin with; nothing is trained."""
    calls: list = []
    monkeypatch.setattr(train, "run", lambda args: calls.append(args) or 0)
    return calls


def test_an_output_folder_is_configuration_and_weights(started: list, small_training: Path) -> None:
    assert main(["evaluate", "--model", str(small_training), "--device", "cpu"]) == 0
    (args,) = started
    assert args.eval_only and args.config_file == str(small_training / "config.yaml")
    cfg = train.read_config(args)
    assert str(small_training / "model_final.pth") == cfg.MODEL.WEIGHTS and cfg.MODEL.DEVICE == "cpu"


def test_a_published_model_and_other_weights(started: list) -> None:
    assert main(["evaluate", "--model", "coco/panoptic/r50"]) == 0
    assert main(["evaluate", "--config-file", "coco/panoptic/r50", "--weights", "mine.pth", "SEED", "3"]) == 0
    assert [train.read_config(args).MODEL.WEIGHTS for args in started] == ["coco/panoptic/r50", "mine.pth"]
    assert started[1].config_file.endswith("configs/coco/panoptic/r50.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "nowhere: neither the output folder"),
        (["--model", "coco/panoptic/r50", "--config-file", "x.yaml"], "leave out --config-file"),
        (["--weights", "a.pth", "MODEL.WEIGHTS", "b.pth"], "leave one out"),
        (["--config-file", "quickstart/nothing"], "no such configuration file"),
    ],
)
def test_mistakes_end_with_one_line(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        main(["evaluate", *words])


def test_old_names_of_the_script_are_there() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("train_net", Path(__file__).parents[2] / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Trainer is train.Trainer and module.read_config is train.read_config
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
    assert evaluate.train is train
