"""The published MaX-DeepLab: stages, names, shapes, sizes and operations of both variants. Nothing is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_sem_seg_head
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mask2former.checkpoint import max_deeplab
from mask2former.checkpoint.formats import convert, to_ours
from mask2former.config import load_config

ROOT = Path(__file__).parents[3]
PUBLISHED = json.loads((ROOT / "tests/spec/published_max_deeplab.json").read_text())


def configuration(variant: str) -> CfgNode:
    return load_config(str(ROOT / f"configs/coco/panoptic/max_deeplab_{variant.lower()}.yaml"), ["MODEL.DEVICE", "cpu"])


def network(variant: str, device: str = "meta") -> nn.ModuleDict:
    cfg = configuration(variant)
    with torch.device(device):
        backbone = build_backbone(cfg)
        head = build_sem_seg_head(cfg, backbone.output_shape())
    return nn.ModuleDict({"backbone": backbone, "sem_seg_head": head}).eval().requires_grad_(False)


def variables(variant: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for name, shape in PUBLISHED["variants"][variant]["parameters"].items():
        shapes[name] = shape
        if name.endswith("gamma"):
            shapes |= {name[:-5] + other: shape for other in ("beta", "moving_mean", "moving_variance")}
    return shapes


@pytest.mark.parametrize("variant", ["S", "L"])
def test_sizes_are_the_published_ones(variant: str) -> None:
    model, counted = network(variant), PUBLISHED["counted"][variant]
    whole = sum(p.numel() for p in model.parameters())
    semantic = sum(p.numel() for p in model["sem_seg_head"].semantic.parameters())
    assert (whole, semantic, whole - semantic) == (
        counted["trainable"],
        counted["of_it_auxiliary_semantic"],
        counted["without_it"],
    )


@pytest.mark.parametrize(("variant", "side"), [("S", 641), ("S", 1025), ("L", 641), ("L", 1025)])
def test_operations_are_the_published_ones(variant: str, side: int) -> None:
    model = network(variant)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        masks = model["sem_seg_head"](model["backbone"](torch.empty(1, 3, side, side, device="meta"))).masks
        masks.logits()
    assert masks.size == ((side - 1) // 4 + 1,) * 2
    digits = PUBLISHED["counted"][variant][f"madds_{side}"].removesuffix("B")
    decimals = len(digits.partition(".")[2])
    assert f"{counter.get_total_flops() / 2e9:.{decimals}f}" == digits


@pytest.mark.parametrize("variant", ["S", "L"])
def test_stages_are_the_published_ones(variant: str) -> None:
    backbone = network(variant)["backbone"]
    for name, stage in PUBLISHED["variants"][variant]["stages"].items():
        # Names of the JSON say "extra" only for the stages that have no inputs of their own.
        own = next(
            layout
            for key, layout in backbone.layouts.items()
            if key.replace("decoder_stage", "decoder_") in (name, f"{name}_extra")
            and bool(layout.inputs) == ("fuse" in stage)
        )
        assert (own.stride, own.channels) == (stage["stride"], stage["channels"]), name
        kinds = [kind.removesuffix("+dual_path") for kind, *_ in stage["blocks"]]
        assert list(own.kinds) == kinds, name
        assert own.dual_path == any("dual_path" in kind for kind, *_ in stage["blocks"]), name
        if "fuse" in stage:
            inputs = [i.replace("decoder_stage", "decoder_") for i in own.inputs]
            fused = [i if i in ("stage5_extra", "decoder_4_extra") else i.removesuffix("_extra") for i in inputs]
            assert fused == stage["fuse"], name
    assert len(backbone.layouts) == len(PUBLISHED["variants"][variant]["stages"])


@pytest.mark.parametrize(("variant", "expected"), [("S", {0.0, 0.15, 0.2}), ("L", {0.0, 0.05, 0.1, 0.15, 0.2})])
def test_drop_path_is_the_published_one(variant: str, expected: set[float]) -> None:
    layouts = network(variant)["backbone"].layouts
    assert {round(drop, 9) for layout in layouts.values() for drop in layout.drop_path} == expected
    assert layouts["stage5"].drop_path == pytest.approx((0.15, 0.2, 0.2))
    assert layouts["stage4"].drop_path[0] == pytest.approx(0.1 if variant == "L" else 0.0)


@pytest.mark.parametrize("variant", ["S", "L"])
def test_every_variable_has_its_place(variant: str) -> None:
    theirs = {name: torch.empty(shape, device="meta") for name, shape in variables(variant).items()}
    ours = {k: list(v.shape) for k, v in network(variant).state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {name: list(value.shape) for name, value in max_deeplab.from_published(theirs).items()} == ours
    assert all(max_deeplab.variable_of(max_deeplab.path_of(name)) == name for name in theirs)


def test_round_trip_is_exact() -> None:
    """Of files' paths, in values, for S; beside the optimiser's slots and a counter."""
    torch.manual_seed(0)
    theirs = {name: torch.randn(shape).half() for name, shape in variables("S").items()}  # half: 160 MB
    file: dict[str, Any] = {max_deeplab.path_of(name): value for name, value in theirs.items()}
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    file |= {"global_step" + end: torch.tensor(7), "_CHECKPOINTABLE_OBJECT_GRAPH": torch.zeros(1)}
    file |= {f"encoder/memory_feature/.OPTIMIZER_SLOT/optimizer/m{end}": torch.zeros(1, 128, 256)}
    name, ours = to_ours(file)
    assert name == "MaX-DeepLab, published"
    back = convert(ours, "published")
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], value) for name, value in theirs.items())
    with pytest.raises(ValueError, match="Hugging Face has no MaX-DeepLab"):
        convert(ours, "hf")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (
            "encoder/_stage4/_block2/_attention/_height_axis/qkv_kernel",
            "stage4/block2/attention/height_axis/qkv_kernel",
        ),
        ("semantic_decoder/_aspp/_conv_bn_act/_conv/kernel", "auxiliary_semantic_decoder/aspp/conv_bn_act/conv/kernel"),
        ("semantic_last_layer/kernel", "auxiliary_semantic_head/final_conv/kernel"),
        ("transformer_class_head/_conv/bias", "transformer_class_head/conv/bias"),
        ("pixel_space_mask_batch_norm/gamma", "pixel_space_mask_batch_norm/gamma"),
    ],
)
def test_paths_of_files(path: str, name: str) -> None:
    assert max_deeplab.path_of(name) == path + "/.ATTRIBUTES/VARIABLE_VALUE"


def test_unknown_variables_are_named() -> None:
    with pytest.raises(ValueError, match="stage2/gate/kernel is not the name of a variable of MaX-DeepLab"):
        max_deeplab.our_name("stage2/gate/kernel")
    weight = {"backbone.stages.stage4.blocks.1.gate.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"blocks.1.gate.weight has no place"):
        max_deeplab.to_published(weight)
