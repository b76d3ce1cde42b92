"""Multiply-adds and parameters of the published models, counted on the meta device, against recorded ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from segvit_models import configuration
from torch.utils.flop_counter import FlopCounterMode

PUBLISHED = json.loads((Path(__file__).parents[2] / "spec/published_segvit.json").read_text())["models"]


@torch.no_grad()
@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_those_of_the_published_code(name: str) -> None:
    """Within half a percent, with the scores at the crop's size: classes times queries times pixels."""
    recorded = PUBLISHED[name]
    case, crop = recorded["case"], recorded["crop"]
    shrunk = case["kind"] == "shrunk"
    names = ("dim", "depth", "heads", "head_dim", "head_heads", "classes")
    structure = {key: case[key] for key in names} | ({"shrink": case["shrink"]} if shrunk else {})
    with torch.device("meta"):
        model = build_model(
            configuration(shrunk, crop=crop, taps=tuple(case["taps"]), MODEL__DEVICE="meta", **structure)
        ).eval()
    model.requires_grad_(False)  # a view of a parameter would confuse the counter
    counter = FlopCounterMode(display=False)
    with counter:
        prediction = model.network(torch.empty(1, 3, crop, crop, device="meta"))
        masks = prediction.masks.logits()
        probability = prediction.class_logits.softmax(-1)[..., :-1]
        torch.einsum("bqk,bqp->bkp", probability, masks.new_empty(1, case["classes"], crop**2))
    counts = {part: counter.get_flop_counts()[part] for part in ("Global", "PlainViT")}
    for part, theirs in (("Global", "all"), ("PlainViT", "backbone")):
        counted = sum(counts[part].values()) / 2e9
        assert counted == pytest.approx(recorded["gmacs_at_crop"][theirs], rel=0.005), part
