"""The published EoMT: names and shapes of its weights, its sizes, and its operations, without values."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch.utils.flop_counter import FlopCounterMode

from mask2former.checkpoint import eomt
from mask2former.config import load_config
from mask2former.data import register_all

ROOT = Path(__file__).parents[3]
# parameters in millions and multiply-adds in 1e9 at the configuration's size, counted from the published code
COUNTED = {
    "eomt_small_640": (24.0, 67.8),
    "eomt_base_640": (93.7, 215.5),
    "eomt_large_640": (316.7, 668.0),
    "eomt_giant_640": (1163.6, 2260),
    "eomt_large_1280": (321.6, 4144),
}


def model_of(name: str) -> torch.nn.Module:
    register_all(os.devnull)
    return build_model(load_config(str(ROOT / f"configs/{name}.yaml"), ["MODEL.DEVICE", "meta"])).eval()


@pytest.mark.parametrize("name", COUNTED)
def test_size_and_operations(name: str) -> None:
    model = model_of(f"coco/panoptic/{name}")
    parameters, operations = COUNTED[name]
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.06)
    side = int(name.rsplit("_", 1)[1])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(torch.empty(1, 3, side, side, device="meta")).masks.logits()
    assert counter.get_total_flops() / 2e9 == pytest.approx(operations, rel=0.005)


def test_names_and_shapes_are_the_published_ones() -> None:
    expected = json.loads((ROOT / "tests/spec/published_params_eomt_large_640.json").read_text())
    state = eomt.to_published(model_of("coco/panoptic/eomt_large_640").state_dict())
    assert state.pop("criterion.empty_weight").shape == (134,)  # published files have the loss's buffers beside these
    assert {name: list(value.shape) for name, value in state.items()} == expected
