"""The published kMaX-DeepLab: its files load, and give its names, shapes, sizes and operations. Nothing is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_sem_seg_head
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mask2former.config import load_config

ROOT = Path(__file__).parents[3]
PUBLISHED = json.loads((ROOT / "tests/spec/published_kmax.json").read_text())
FILES = {
    name.replace("/panoptic_segmentation", "").removesuffix(".yaml"): name for name in PUBLISHED["configs_resolved"]
}


def published_file(name: str, folder: Path) -> str:
    """Write a published file, with its bases resolved."""
    content: dict[str, Any] = {"VERSION": 2}
    for key, value in PUBLISHED["configs_resolved"][FILES[name]].items():
        *parts, last = key.split(".")
        node = content
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    file = folder / "published.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def network(cfg: CfgNode) -> nn.ModuleDict:
    with torch.device("meta"):
        backbone = build_backbone(cfg)
        head = build_sem_seg_head(cfg, backbone.output_shape())
    return nn.ModuleDict({"backbone": backbone, "sem_seg_head": head}).eval().requires_grad_(False)


def unpacked(names: dict[str, Any]) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for name, value in names.items():
        if name.endswith(".*"):
            shapes |= {name[:-1] + part: [value] for part in ("weight", "bias", "running_mean", "running_var")}
        else:
            shapes[name] = value
    return shapes


@pytest.mark.parametrize("name", FILES)
def test_published_file_gives_the_published_network(name: str, tmp_path: Path) -> None:
    cfg = load_config(published_file(name, tmp_path), ["MODEL.DEVICE", "cpu"])
    model = network(cfg)
    counted = PUBLISHED["counted"][name]
    assert sum(p.numel() for p in model.parameters()) == counted["parameters"]["all"]
    found = {k: list(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    if name in PUBLISHED["params"]:
        assert found == unpacked(PUBLISHED["params"][name])
    elif name in PUBLISHED["params_of_the_others"]:
        other = PUBLISHED["params_of_the_others"][name]
        changed = unpacked(other["changed_or_new"])
        expected = unpacked(PUBLISHED["params"][other["against"]]) | changed
        assert {k: expected.get(k) for k in found} == found
        assert len(expected) - len(found) == other["absent"]
        assert set(changed) <= set(found)


@pytest.mark.parametrize("name", FILES)
def test_operations_are_the_published_ones(name: str, tmp_path: Path) -> None:
    """Less the products that are not needed: those with the assignment, and the classes of layers at inference."""
    cfg = load_config(published_file(name, tmp_path), ["MODEL.DEVICE", "cpu"])
    model = network(cfg)
    height, width = cfg.INPUT.CANVAS
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        masks = model["sem_seg_head"](model["backbone"](torch.empty(1, 3, height, width, device="meta"))).masks
        masks.logits()
    slots, classes = cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    assert masks.size == ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
    pixels = sum(2 * ((height - 1) // stride + 1) * ((width - 1) // stride + 1) for stride in (32, 16, 8))
    saved = 256 * slots * pixels + 6 * 256 * slots * (classes + 1)
    expected = PUBLISHED["counted"][name]["gmacs_inference_at_canvas"]["all"]
    assert (counter.get_total_flops() / 2 + saved) / 1e9 == pytest.approx(expected, abs=0.006)


def test_published_keys_mean_what_they_mean_here(tmp_path: Path) -> None:
    cfg = load_config(published_file("cityscapes/kmax_r50", tmp_path), ["MODEL.KMAX_DEEPLAB.TEST.INSTANCE_ON", "True"])
    former = cfg.MODEL.MASK_FORMER
    assert (former.CLASS_WEIGHT, former.DICE_WEIGHT, former.MASK_WEIGHT, former.NO_OBJECT_WEIGHT) == (3, 3, 0.3, 1e-5)
    assert (former.TEST.PANOPTIC_ON, former.TEST.SEMANTIC_ON, former.TEST.INSTANCE_ON) == (True, False, True)
    assert former.TEST.OVERLAP_THRESHOLD == 0.9 and former.NUM_OBJECT_QUERIES == 256
    assert cfg.INPUT.CANVAS == [1025, 2049] and former.SIZE_DIVISIBILITY == 1024
    assert cfg.INPUT.MIN_SCALE == 0.5


def test_defaults_are_the_published_ones(tmp_path: Path) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text("VERSION: 2\nMODEL: {META_ARCHITECTURE: kMaXDeepLab}\n")
    cfg = load_config(str(file))

    def value(name: str) -> Any:
        node: Any = cfg
        for part in name.split("."):
            node = node[part]
        return node

    renamed = {"INPUT.DATASET_MAPPER_NAME", "INPUT.IMAGE_SIZE", "SOLVER.WEIGHT_DECAY_EMBED"}
    for name, expected in PUBLISHED["defaults"].items():
        if name not in renamed:
            assert value(name) == expected, name
    assert PUBLISHED["defaults"]["INPUT.IMAGE_SIZE"] == cfg.INPUT.CANVAS


@pytest.mark.parametrize("name", FILES)
def test_our_file_says_what_the_published_one_says(name: str, tmp_path: Path) -> None:
    """But for the weights to begin with, and more results."""
    ours = load_config(str(ROOT / f"configs/{name.replace('/', '/panoptic/')}.yaml"), ["MODEL.DEVICE", "cpu"])
    theirs = load_config(published_file(name, tmp_path), ["MODEL.DEVICE", "cpu"])
    for cfg in (ours, theirs):
        cfg.MODEL.WEIGHTS = ""
        if cfg.MODEL.BACKBONE.NAME != "D2ConvNeXt":
            cfg.MODEL.CONVNEXT.clear()  # not read
        cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_ON = cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = True
    assert ours.dump() == theirs.dump()


def test_other_models_files_stay_as_they_are() -> None:
    cfg = load_config(str(ROOT / "configs/coco/panoptic/r50.yaml"))
    assert cfg.INPUT.CANVAS == [] and cfg.MODEL.MASK_FORMER.CRITERION == "SetCriterion"


def test_other_norms_are_refused(tmp_path: Path) -> None:
    cfg = load_config(published_file("coco/kmax_r50", tmp_path), ["MODEL.RESNETS.NORM", "FrozenBN"])
    with pytest.raises(
        ValueError, match=r"MODEL.RESNETS.NORM is 'FrozenBN'; custom_bn_build_resnet_backbone needs SyncBN"
    ):
        build_backbone(cfg)
