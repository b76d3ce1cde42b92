"""Conversion between formats as a command, and the report of what became of a file."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import logging
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from small_models import configuration
from torch import nn

from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.weights_io import read

SCRIPT = Path(__file__).parents[2] / "tools/convert.py"


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return build_model(configuration())


@pytest.fixture(scope="module")
def convert() -> object:
    spec = importlib.util.spec_from_file_location("convert", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(
    ("target", "name"),
    [("published", "x.pkl"), ("published", "x.pth"), ("hf", "model.safetensors"), ("hf", "pytorch_model.bin")],
)
def test_there_and_back(small: nn.Module, convert: object, tmp_path: Path, target: str, name: str) -> None:
    MaskFormerCheckpointer(small, str(tmp_path)).save("ours")
    there, back = str(tmp_path / name), str(tmp_path / "back.pth")
    assert convert([str(tmp_path / "ours.pth"), there, "--to", target]) == 0
    assert "sem_seg_head.predictor.norm.weight" not in read(there)["model"]
    assert convert([there, back, "--to", "ours"]) == 0
    ours, found = read(str(tmp_path / "ours.pth"))["model"], read(back)["model"]
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[key], ours[key]) and found[key].dtype == ours[key].dtype for key in ours)


def test_between_theirs(small: nn.Module, convert: object, tmp_path: Path) -> None:
    MaskFormerCheckpointer(small, str(tmp_path)).save("ours")
    paths = [str(tmp_path / name) for name in ("ours.pth", "a.pkl", "b.safetensors", "c.pkl")]
    for (source, goal), target in zip(itertools.pairwise(paths), ("published", "hf", "published"), strict=True):
        assert convert([source, goal, "--to", target]) == 0
    first, last = read(paths[1])["model"], read(paths[3])["model"]
    assert first.keys() == last.keys() and all((first[key] == last[key]).all() for key in first)


def test_maskformer_v1(convert: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build_model(configuration(v1=True))
    MaskFormerCheckpointer(model, str(tmp_path)).save("ours")
    assert convert([str(tmp_path / "ours.pth"), str(tmp_path / "v1.pkl"), "--to", "published"]) == 0
    state = read(str(tmp_path / "v1.pkl"))["model"]
    for name in list(state):  # as its first files have it
        state[name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.")] = torch.from_numpy(state.pop(name))
    torch.save({"model": state}, tmp_path / "v1.pth")
    other = build_model(configuration(v1=True))
    checkpointer = MaskFormerCheckpointer(other)
    checkpointer.load(str(tmp_path / "v1.pth"))
    assert checkpointer.report.matched == checkpointer.report.total and not checkpointer.report.left_over
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert convert([str(tmp_path / "v1.pth"), str(tmp_path / "hf.bin"), "--to", "hf"]) == 2
    assert "Hugging Face's Mask2Former has no such parts" in capsys.readouterr().err


def test_unknown_names(convert: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x.weight": torch.ones(2)}, tmp_path / "x.pth")
    assert convert([str(tmp_path / "x.pth"), str(tmp_path / "y.pth"), "--to", "ours"]) == 2
    assert "match no known format: x.weight" in capsys.readouterr().err
    assert not (tmp_path / "y.pth").exists()


def test_another_number_of_classes_and_queries(
    small: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    MaskFormerCheckpointer(small, str(tmp_path)).save("small")
    cfg = configuration()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 3, 20
    model = build_model(cfg)
    before = copy.deepcopy(model.state_dict())
    checkpointer = MaskFormerCheckpointer(model)
    with caplog.at_level(logging.INFO):
        checkpointer.load(str(tmp_path / "small.pth"))
    heads = {f"sem_seg_head.predictor.{part}" for part in ("class_embed", "query_feat", "query_embed")}
    changed = {name for name, value in small.state_dict().items() if value.shape != before[name].shape}
    assert {name.rpartition(".")[0] for name in changed} == heads
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in changed else small.state_dict()[name]), name
    text = caplog.text
    total = len(before)
    assert f"{total - len(changed)} of {total} parameters and buffers matched" in text
    assert "The number of classes differs, 7 in the file and 3 in the model, so these are re-initialised" in text
    assert "The number of queries differs, 12 in the file and 20 in the model, so these are re-initialised" in text
    assert not checkpointer.report.foreign and "left as initialised" not in text


def test_another_network_is_said_to_be_one(small: nn.Module, tmp_path: Path) -> None:
    state = small.state_dict()
    name = "sem_seg_head.predictor.norm.weight"
    state[name] = torch.ones(5)
    state["extra.weight"] = state.pop("sem_seg_head.predictor.norm.bias")
    checkpointer = MaskFormerCheckpointer(build_model(configuration()))
    checkpointer._load_model({"model": state})
    text = "\n".join(checkpointer.report.lines())
    assert f"is it the same network? 1: {name} (5,) in the file, (32,) in the model" in text
    assert "left as initialised: 1: sem_seg_head.predictor.norm.bias" in text
    assert "Only in the file, so not used: 1: extra.weight" in text


def test_nothing_fits(small: nn.Module, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"Nothing in the file fits the model.*Only in the file, so not used: 1: a\.weight"
    ):
        MaskFormerCheckpointer(small).load(str(tmp_path / "a.pth"))
