"""Mistakes tell an outsider what to do: in an installed package as in a checkout, on a machine without a GPU too."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former import Predictor
from mask2former.config import ConfigError, load_config
from mask2former.custom.model import configuration
from mask2former_cli.main import main

ROOT = Path(__file__).parents[2]
SCRIPT = re.compile(r"\b(tools|demo)/\w+\.py|\btrain_net\.py")
OF_CHECKOUTS = {
    "mask2former_cli/train.py",
    "mask2former_cli/train_custom.py",
}  # examples of launchers, which start a file


def texts(file: Path) -> list[str]:
    """Return what a module can say: its strings but for docstrings."""
    tree = ast.parse(file.read_text())
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


def test_messages_name_commands_that_are_installed() -> None:
    files = [file for folder in ("mask2former", "mask2former_cli") for file in sorted((ROOT / folder).rglob("*.py"))]
    wrong = [
        f"{name}: {text[:100]}"
        for file in files
        if (name := file.relative_to(ROOT).as_posix()) not in OF_CHECKOUTS
        for text in texts(file)
        if SCRIPT.search(text)
    ]
    assert len(files) > 300 and not wrong, "\n".join(wrong)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_gpu_that_is_asked_for_and_missing(
    no_gpu: None, small_training: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever way the device is set: by a flag of train-custom, or for a predictor of a configuration."""
    cfg, fixed = configuration("small_r18", None, True, ["MODEL.DEVICE", "cuda", "SOLVER.BACKBONE_MULTIPLIER", "0.5"])
    assert cfg.MODEL.DEVICE == "cpu" and fixed["MODEL.DEVICE"] == "cuda"
    assert cfg.SOLVER.BACKBONE_MULTIPLIER == 0.5, "the user's own, not that of training from scratch"
    own = load_config(str(small_training / "config.yaml"), ["MODEL.WEIGHTS", str(small_training / "model_final.pth")])
    with caplog.at_level(logging.WARNING):
        predictor = Predictor(own, device="cuda:1")
    assert predictor.model.device == torch.device("cpu")
    assert "MODEL.DEVICE is cuda:1 but PyTorch sees no GPU" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.DEVICE", "gpu"], r"MODEL\.DEVICE is 'gpu'; give cpu, cuda, or a GPU such as cuda:1"),
        (["MODEL.WEIGHTS", "3"], r"MODEL\.WEIGHTS is text, such as ''; found a whole number, 3\."),
        (
            ["output/mine"],
            r"found 'output/mine'\. output/mine is no KEY: if it is a model .* follows --model or --config",
        ),
        (["SOLVER.MAX_ITER", "3", "--quiet"], r"Flags such as --quiet go before the first KEY"),
        (["SOLVER.MAX_ITER"], r"found 'SOLVER\.MAX_ITER'\.$"),
    ],
)
def test_options(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, options)


def test_a_gpu_beyond_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert load_config(None, ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"
    with pytest.raises(ConfigError, match="is cuda:2, but PyTorch sees 2, the last of which is cuda:1"):
        load_config(None, ["MODEL.DEVICE", "cuda:2"])


def test_a_task_that_is_none(small_training: Path) -> None:
    result = Predictor(small_training, device="cpu")(np.zeros((64, 64, 3), np.uint8))
    for asked in (result.draw, result.parts, result.regions, result.to_coco, result.label_map, result.to_supervision):
        with pytest.raises(ValueError, match="'depth' is not a task; choose one of panoptic, instance, semantic"):
            asked("depth")


def test_a_json_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cut.json"
    file.write_text('{"images": [')
    assert main(["check", "--coco", str(file), str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("\n1 fault\n")
    words = ["train-custom", "--train", str(file), str(tmp_path), "--model", "small_r18", "--dry-run"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 2
    assert "Is it complete? `mask2former check` lists all faults." in capsys.readouterr().err


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "no/such/folder"]) == 2
    assert (
        "error: no/such/folder: no such folder. No data set 'no/such/folder' is registered" in capsys.readouterr().err
    )
