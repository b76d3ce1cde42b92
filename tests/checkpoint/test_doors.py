"""Detectron2's own ways of loading weights take every format, and none leaves a part of the network without."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from small_models import configuration
from torch import Tensor, nn

from mask2former.checkpoint.formats import convert
from mask2former.config import load_config

ROOT = Path(__file__).parents[2]
PREDICTOR = "sem_seg_head.predictor."
State = dict[str, Tensor]
Door = Callable[[nn.Module, State, Path], None]


def detection_checkpointer(model: nn.Module, state: State, folder: Path) -> None:
    torch.save({"model": state}, folder / "model.pth")
    DetectionCheckpointer(model).load(str(folder / "model.pth"))


def bare_file(model: nn.Module, state: State, folder: Path) -> None:
    torch.save(state, folder / "model.pth")
    DetectionCheckpointer(model).load(str(folder / "model.pth"))


def pickled(model: nn.Module, state: State, folder: Path) -> None:
    arrays = {name: value.numpy() for name, value in state.items()}
    (folder / "model.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    DetectionCheckpointer(model).load(str(folder / "model.pkl"))


def matched_by_likeness(model: nn.Module, state: State, folder: Path) -> None:
    arrays = {name: value.numpy() for name, value in state.items()}
    content = {"model": arrays, "__author__": "somebody", "matching_heuristics": True}
    (folder / "model.pkl").write_bytes(pickle.dumps(content))
    DetectionCheckpointer(model).load(str(folder / "model.pkl"))


def strict(model: nn.Module, state: State, folder: Path) -> None:
    model.load_state_dict(state, strict=True)


def strict_with_metadata(model: nn.Module, state: State, folder: Path) -> None:
    ordered = OrderedDict(state)
    ordered._metadata = OrderedDict({"": {"version": 1}, "sem_seg_head": {"version": 2}})
    model.load_state_dict(ordered, strict=True)


def of_distributed_model(model: nn.Module, state: State, folder: Path) -> None:
    model.load_state_dict({f"module.{name}": value for name, value in state.items()}, strict=True)


def inside_another(model: nn.Module, state: State, folder: Path) -> None:
    nn.ModuleDict({"teacher": model}).load_state_dict({f"teacher.{name}": value for name, value in state.items()})


WHOLE: list[Door] = [
    detection_checkpointer,
    bare_file,
    pickled,
    matched_by_likeness,
    strict,
    strict_with_metadata,
    of_distributed_model,
    inside_another,
]


def draw(model: nn.Module) -> nn.Module:
    """Make every value another one, none of which another tensor has."""
    for value in model.state_dict().values():
        if value.dtype.is_floating_point:
            value.uniform_(0.5, 1.5)
    return model


def equal(model: nn.Module, other: nn.Module) -> bool:
    found = other.state_dict()
    return all(torch.equal(value, found[name]) for name, value in model.state_dict().items())


@pytest.fixture(scope="module", params=["r50", "swin"])
def published(request: pytest.FixtureRequest) -> tuple[State, CfgNode]:
    """A file of a published model at its full size: its names and shapes, with values drawn."""
    spec = {"r50": "r50", "swin": "swin_tiny"}[request.param]
    shapes = json.loads((ROOT / f"tests/spec/published_params_coco_panoptic_{spec}.json").read_text())
    cfg = load_config(str(ROOT / f"configs/coco/panoptic/{request.param}.yaml"), ["MODEL.DEVICE", "cpu"])
    torch.manual_seed(1)
    return {name: torch.rand(shape) for name, shape in shapes.items()}, cfg


def test_published_models_are_loaded_whole(published: tuple[State, CfgNode], tmp_path: Path) -> None:
    """No table of names is asked: each tensor of the model has to be one of the file's, and each of the file's used."""
    state, cfg = published
    known = {value.sum().item(): name for name, value in state.items()}
    derived = [name for name in state if name == "criterion.empty_weight" or name.endswith("position_index")]
    for door in (detection_checkpointer, strict, strict_with_metadata):
        model = build_model(cfg)
        door(model, state, tmp_path)
        found = [known[value.sum().item()] for value in model.state_dict().values()]
        assert sorted([*found, *derived]) == sorted(state), door
        backbone = {name: value for name, value in model.state_dict().items() if name.startswith("backbone.")}
        assert all(torch.equal(value, state[name]) for name, value in backbone.items())


@pytest.mark.parametrize("door", WHOLE)
@pytest.mark.parametrize("target", ["ours", "published", "hf"])
def test_every_format_by_every_door(target: str, door: Door, tmp_path: Path) -> None:
    source = draw(build_model(configuration()))
    model = build_model(configuration())
    door(model, convert(source.state_dict(), target), tmp_path)
    assert equal(source, model)


@pytest.mark.parametrize("door", [detection_checkpointer, pickled, strict])
def test_maskformer_v1_with_its_first_names(door: Door, tmp_path: Path) -> None:
    source, model = draw(build_model(configuration(v1=True))), build_model(configuration(v1=True))
    state = convert(source.state_dict(), "published")
    door(model, {name.replace("head.pixel_decoder.", "head."): value for name, value in state.items()}, tmp_path)
    assert equal(source, model)


@pytest.mark.parametrize("name", ["PerPixelBaselineHead", "PerPixelBaselinePlusHead"])
@pytest.mark.parametrize("door", [detection_checkpointer, strict])
def test_baselines_of_detectron2s_architecture(name: str, door: Door, tmp_path: Path) -> None:
    cfg = configuration(v1=True)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.NAME = "SemanticSegmentor", name
    source, model = draw(build_model(cfg)), build_model(cfg)
    door(model, convert(source.state_dict(), "published"), tmp_path)
    assert equal(source, model)
    with pytest.raises(ValueError, match=r"nothing that fits sem_seg_head\.predictor, which would stay random"):
        model.load_state_dict(
            {n: v for n, v in source.state_dict().items() if "pixel" in n} | {PREDICTOR + "x": torch.ones(1)},
            strict=False,
        )


@pytest.mark.parametrize("door", [bare_file, matched_by_likeness])
def test_backbones_alone_leave_the_head_to_be_trained(door: Door, tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    if door is matched_by_likeness:  # under Detectron2's names, as its R-50.pkl
        state = draw(build_model(configuration())).backbone.state_dict()
    model = build_model(configuration())
    before = copy.deepcopy(model.state_dict())
    door(model, state, tmp_path)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    weights = {name for name in before if name.startswith("backbone.") and name.endswith("weight")}
    assert all(name.startswith("backbone.") for name in changed)
    assert {name for name in weights if ".norm" not in name} <= changed


@pytest.mark.parametrize("door", [detection_checkpointer, bare_file])
@pytest.mark.parametrize("target", ["ours", "published", "hf"])
def test_another_number_of_classes_and_queries(
    target: str, door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, cfg = draw(build_model(configuration())), configuration()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 3, 20
    model = build_model(cfg)
    before = copy.deepcopy(model.state_dict())
    with caplog.at_level(logging.WARNING):
        door(model, convert(source.state_dict(), target), tmp_path)
    changed = [name for name, value in source.state_dict().items() if value.shape != before[name].shape]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in changed else source.state_dict()[name]), name
    parts = ("class_embed.weight", "class_embed.bias", "query_feat.weight", "query_embed.weight")
    assert changed and all(PREDICTOR + part in changed and part in caplog.text for part in parts)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*class_embed"):
        model.load_state_dict(convert(source.state_dict(), target))


def test_another_network_is_refused(tmp_path: Path) -> None:
    cfg = configuration()
    cfg.MODEL.MASK_FORMER.DIM_FEEDFORWARD = 48
    state = convert(build_model(cfg).state_dict(), "published")
    with pytest.raises(RuntimeError, match=r"size mismatch for sem_seg_head\.predictor\.layers\.0\.feed_forward"):
        detection_checkpointer(build_model(configuration()), state, tmp_path)


def unlike(state: State, old: str, new: str) -> State:
    """Names that begin with ``old`` are spelled ``new``; "" leaves them out."""
    renamed = {(new + name.removeprefix(old)) if name.startswith(old) else name: v for name, v in state.items()}
    return renamed if new else {name: v for name, v in state.items() if not name.startswith(old)}


BROKEN = [
    ("ours", PREDICTOR, PREDICTOR + "renamed.", "predictor"),
    ("ours", PREDICTOR, "decoder.", "predictor"),
    ("ours", PREDICTOR, "", "predictor"),
    ("ours", "backbone.", "trunk.", "backbone"),
    ("ours", "backbone.", "backbone.body.", "backbone"),
    ("ours", "sem_seg_head.pixel_decoder.", "sem_seg_head.pixels.", "pixel_decoder"),
    ("published", "backbone.", "", "backbone"),
    ("published", PREDICTOR, "", "predictor"),
    ("published", PREDICTOR, "head.", "predictor"),
    ("hf", "model.transformer_module.", "", "predictor"),
]


@pytest.mark.parametrize(("target", "old", "new", "part"), BROKEN)
@pytest.mark.parametrize("door", [detection_checkpointer, pickled, strict])
def test_a_part_that_finds_nothing_is_an_error(
    target: str, old: str, new: str, part: str, door: Door, tmp_path: Path
) -> None:
    state = unlike(convert(build_model(configuration()).state_dict(), target), old, new)
    if target == "hf":  # which hold one projection of the decoder elsewhere
        state = {name: value for name, value in state.items() if "class_predictor" not in name}
    with pytest.raises(ValueError, match=rf"nothing that fits .*{part}.*would stay random.*Not in the file"):
        door(build_model(configuration()), state, tmp_path)
    with pytest.raises(ValueError, match=part):
        build_model(configuration()).load_state_dict(state, strict=False)


def test_nothing_fits(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Nothing in the file fits the model.*Only in the file, so not used.*a\.weight"
    ):
        detection_checkpointer(build_model(configuration()), {"a.weight": torch.ones(2)}, tmp_path)


def test_chosen_parts_are_loaded_and_nothing_else() -> None:
    source, model = draw(build_model(configuration())), build_model(configuration())
    before = copy.deepcopy(model.state_dict())
    chosen = {name: value for name, value in source.state_dict().items() if name.startswith(PREDICTOR)}
    missing = model.load_state_dict(chosen, strict=False).missing_keys
    for name, value in model.state_dict().items():
        if not name.endswith(("running_mean", "running_var")):  # frozen normalisation fills in what is absent
            assert torch.equal(value, source.state_dict()[name] if name in chosen else before[name]), name
    assert set(missing) | set(chosen) >= {name for name in before if "running" not in name}
    assert "sem_seg_head.predictor.norm.weight" in model.load_state_dict({}, strict=False).missing_keys


def test_parts_that_a_subclass_adds_are_not_asked_after() -> None:
    source, model = draw(build_model(configuration())), build_model(configuration())
    model.depth_head = nn.Linear(3, 3)
    missing = model.load_state_dict(convert(source.state_dict(), "published"), strict=False).missing_keys
    assert missing == ["depth_head.weight", "depth_head.bias"] and equal(source, model)


def test_copies_and_pickles_convert_too() -> None:
    source = draw(build_model(configuration()))
    state = convert(source.state_dict(), "published")
    for model in (
        copy.deepcopy(build_model(configuration())),
        pickle.loads(pickle.dumps(build_model(configuration()))),
    ):
        model.load_state_dict(state)
        assert equal(source, model)
