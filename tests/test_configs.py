"""Our configuration files against what the published ones set, key by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from mask2former import add_maskformer2_config
from mask2former.checkpoint.published import from_published, to_published
from mask2former.data import register_all
from mask2former.engine import load_config

ROOT = Path(__file__).parents[1]
PUBLISHED = json.loads((ROOT / "tests/spec/published_configs.json").read_text())
OURS = {
    "coco/panoptic/r50": "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep",
    "coco/instance/r50": "coco/instance-segmentation/maskformer2_R50_bs16_50ep",
    "ade20k/semantic/r50": "ade20k/semantic-segmentation/maskformer2_R50_bs16_160k",
    "cityscapes/panoptic/r50": "cityscapes/panoptic-segmentation/maskformer2_R50_bs16_90k",
    "cityscapes/instance/r50": "cityscapes/instance-segmentation/maskformer2_R50_bs16_90k",
    "cityscapes/semantic/r50": "cityscapes/semantic-segmentation/maskformer2_R50_bs16_90k",
}
ALL = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if "_base_" not in p.parts)


def flatten(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def defaults() -> dict[str, Any]:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    return flatten(cfg)


def test_defaults_are_the_published_ones() -> None:
    ours = defaults()
    assert {key: ours.get(key) for key in PUBLISHED["defaults_added_to_detectron2"]} == PUBLISHED[
        "defaults_added_to_detectron2"
    ]


@pytest.mark.parametrize("name", OURS)
def test_resolves_to_the_published_configuration(name: str) -> None:
    resolved = flatten(load_config(str(ROOT / f"configs/{name}.yaml")))
    expected = {**defaults(), **PUBLISHED["configs"][f"{OURS[name]}.yaml"]}
    device = {"MODEL.DEVICE"}  # falls back to the CPU where there is no GPU
    assert {k: v for k, v in resolved.items() if k not in device} == {
        k: v for k, v in expected.items() if k not in device
    }


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_is_short_and_loads(path: Path) -> None:
    load_config(str(path))
    assert len(path.read_text().splitlines()) <= 15 or path.name == "base.yaml"


@pytest.mark.parametrize(
    ("spec", "changes"),
    [("r50", []), ("swin_tiny", ["MODEL.BACKBONE.NAME", "D2SwinTransformer"])],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_has_the_published_parameters(tmp_path: Path, spec: str, changes: list[str]) -> None:
    """Names and shapes, and values that go there and back."""
    register_all(str(tmp_path))
    cfg = load_config(str(ROOT / "configs/coco/panoptic/r50.yaml"), ["MODEL.DEVICE", "cpu", *changes])
    state = build_model(cfg).state_dict()
    published = to_published(state)
    expected = json.loads((ROOT / f"tests/spec/published_params_coco_panoptic_{spec}.json").read_text())
    assert {name: list(value.shape) for name, value in published.items()} == expected
    back = from_published(published)
    assert back.keys() == state.keys() and all(back[name] is state[name] for name in state)
