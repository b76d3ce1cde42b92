"""The published MaX-DeepLab-S and -L: our files give their names, shapes, sizes, operations and way of the decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_backbone, build_sem_seg_head
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mask2former.checkpoint import max_deeplab
from mask2former.config import load_config
from mask2former.modeling.max_deeplab.route import route

ROOT = Path(__file__).parents[3]
PUBLISHED = json.loads((ROOT / "tests/spec/max_deeplab.json").read_text())["variants"]
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.fixture(scope="module", params=["S", "L"])
def variant(request: pytest.FixtureRequest) -> tuple[str, nn.ModuleDict]:
    cfg = load_config(str(ROOT / f"configs/coco/panoptic/max_deeplab_{request.param.lower()}.yaml"))
    with torch.device("meta"):
        backbone = build_backbone(cfg)
        head = build_sem_seg_head(cfg, backbone.output_shape())
    model = nn.ModuleDict({"backbone": backbone, "sem_seg_head": head}).eval().requires_grad_(False)
    return request.param, model


def published_shapes(name: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for variable, shape in PUBLISHED[name]["parameters"].items():
        shapes |= {variable[:-1] + leaf: shape for leaf in _NORM} if variable.endswith("*") else {variable: shape}
    assert len(shapes) == PUBLISHED[name]["variables"]
    return shapes


def ours(model: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}


def test_names_and_shapes_are_tensorflows(variant: tuple[str, nn.ModuleDict]) -> None:
    name, model = variant
    found = {key: list(value.shape) for key, value in max_deeplab.to_published(ours(model)).items()}
    assert found == published_shapes(name)


def test_tensorflows_names_and_shapes_are_ours(variant: tuple[str, nn.ModuleDict]) -> None:
    name, model = variant
    variables = {key: torch.empty(shape, device="meta") for key, shape in published_shapes(name).items()}
    found = {key: value.shape for key, value in max_deeplab.from_published(variables).items()}
    assert found == {key: value.shape for key, value in ours(model).items()}


def test_sizes_are_the_published_ones(variant: tuple[str, nn.ModuleDict]) -> None:
    """61.9 M and 451 M without the auxiliary branch."""
    name, model = variant
    auxiliary = sum(p.numel() for p in model["sem_seg_head"].semantic.parameters())
    counted = PUBLISHED[name]["counted"]
    assert auxiliary == counted["of_it_auxiliary_semantic"]
    assert sum(p.numel() for p in model.parameters()) - auxiliary == counted["without_it"]


@pytest.mark.parametrize("side", [641, 1025])
def test_operations_are_the_published_ones(variant: tuple[str, nn.ModuleDict], side: int) -> None:
    """324 G and 3692 G multiply-adds in the paper; ours and the counted ones are 325.8 and 3691.9 at 1025."""
    name, model = variant
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        masks = model["sem_seg_head"](model["backbone"](torch.empty(1, 3, side, side, device="meta"))).masks
        masks.logits()
    assert masks.size == ((side - 1) // 4 + 1,) * 2
    digits = 0 if name == "L" and side == 641 else 1  # as given
    expected = float(PUBLISHED[name]["counted"][f"madds_{side}"].removesuffix("B"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=0.51 * 10**-digits)


@pytest.mark.parametrize(("name", "pretrained", "new"), [("S", 0, 0), ("L", 1, 1)])
def test_the_decoder_takes_the_published_way(name: str, pretrained: int, new: int) -> None:
    expected: dict[str, Any] = PUBLISHED[name]["stages"]
    stops = {stop.name.replace("_stage", "_"): stop for stop in route(pretrained, new)}
    assert {stop.stride for stop in stops.values()} == {4, 8, 16}
    if name == "S":  # its end of the encoder belongs to another list there
        assert stops.pop("stage5_extra").stride == 16
    plain = {key.removesuffix("_extra") if key != "decoder_4_extra" else key: stop for key, stop in stops.items()}
    assert list(plain) == list(expected)
    for key, stop in plain.items():
        stage = expected[key]
        assert stop.stride == stage["stride"]
        others = [x.replace("_stage", "_") for x in stop.others]
        others = [x if x in expected else x.removesuffix("_extra") for x in others]
        assert others == stage.get("fuse", ["current"])[1:], key


def test_blocks_have_the_published_drop_path() -> None:
    cfg = load_config(str(ROOT / "configs/coco/panoptic/max_deeplab_l.yaml"))
    with torch.device("meta"):
        model = build_backbone(cfg)

    def skipped(name: str) -> float:
        return round(model.get_submodule(name).drop_path.p, 6)

    expected = {
        "stage1.block1": 0,
        "stage2.block1": 0,
        "stage2.block2": 0.05,
        "stage3.block1": 0.05,
        "stage3.block2": 0.1,
        "stage4.block1": 0.1,
        "stage4.block1_transformer": 0.1,
        "stage4.block2": 0.15,
        "stage5.block1_transformer": 0.15,
        "stage5.block2": 0.2,
        "decoder_stage1.block1": 0.1,
        "decoder_stage2.block1": 0.05,
        "decoder_stage4_extra.block3_transformer": 0.2,
    }
    assert {name: skipped(name) for name in expected} == expected


def test_recipe_is_the_published_one() -> None:
    for letter, rate in (("s", 1e-3), ("l", 3e-4)):
        cfg = load_config(str(ROOT / f"configs/coco/panoptic/max_deeplab_{letter}.yaml"))
        solver = cfg.SOLVER
        assert ("ADAM", rate, 1e-7, 0) == (solver.OPTIMIZER, solver.BASE_LR, solver.ADAM_EPS, solver.WEIGHT_DECAY)
        assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.WARMUP_ITERS, solver.WARMUP_FACTOR) == (64, 1e5, 5000, 0)
        assert not solver.CLIP_GRADIENTS.ENABLED and solver.BACKBONE_MULTIPLIER == 0.1
        assert cfg.INPUT.CANVAS == [1025, 1025] and cfg.MODEL.PIXEL_MEAN == cfg.MODEL.PIXEL_STD == [127.5] * 3
