"""Weights of timm's plain ViTs in ours: the same features where timm itself computes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mask2former.checkpoint.formats import to_ours
from mask2former.checkpoint.timm_vit import resized_patches
from mask2former.modeling.backbone import PlainViT

timm = pytest.importorskip("timm")

SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 4}


def plain_vit(**changes: Any) -> PlainViT:
    options: dict[str, Any] = {"image_size": 64, "patch_size": 16, "mlp_hidden": 192, "class_token": True}
    options |= {"num_registers": 0, "positions": "table", "out_blocks": (0, 2)} | SMALL
    return PlainViT(**options | changes).eval()


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


CASES = {
    # AugReg: positions of the class token too, no registers; then DINOv2 with registers; then DINOv3.
    "augreg": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, **SMALL), {}),
    "dinov2": (
        lambda: timm.create_model("vit_small_patch14_reg4_dinov2", img_size=64, patch_size=16, **SMALL),
        {"num_registers": 4, "layer_scale": 1e-5},
    ),
    "dinov3": (
        lambda: timm.create_model("vit_small_patch16_dinov3", img_size=64, **SMALL),
        {"num_registers": 4, "layer_scale": 1e-5, "positions": "rotary", "key_bias": False},
    ),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_features_equal_timms(case: str) -> None:
    build, options = CASES[case]
    reference = randomised(build())
    model = plain_vit(**options)
    name, weights = to_ours(reference.state_dict(), {f"backbone.{n}": x for n, x in model.state_dict().items()})
    assert name == "timm ViT"
    model.load_state_dict({n.removeprefix("backbone."): x for n, x in weights.items()})
    images = torch.randn(2, 3, 64, 64)
    expected = reference.forward_intermediates(images, indices=[0, 2], norm=False, intermediates_only=True)
    found = model(images)
    for features, name in zip(expected, ("block0", "block2"), strict=True):
        torch.testing.assert_close(found[name], features, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_table_of_another_grid_is_resized_and_the_class_token_left_out_where_there_is_none() -> None:
    reference = randomised(CASES["augreg"][0]())
    model = plain_vit(image_size=96, class_token=False, final_norm=False)
    own = {f"backbone.{n}": x for n, x in model.state_dict().items()}
    _, weights = to_ours(reference.state_dict(), own)
    model.load_state_dict({n.removeprefix("backbone."): x for n, x in weights.items()})
    table = reference.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    expected = F.interpolate(table, (6, 6), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.pos_embed, expected)
    torch.testing.assert_close(model.table((6, 6)), model.pos_embed)
    assert model(torch.randn(1, 3, 32, 80))["block2"].shape == (1, 48, 2, 5)


@torch.no_grad()
def test_resized_patches_are_timms() -> None:
    from timm.layers import resample_patch_embed

    weight = torch.randn(8, 3, 14, 14)
    torch.testing.assert_close(
        resized_patches(weight, 16), resample_patch_embed(weight, [16, 16]), atol=1e-4, rtol=1e-4
    )
    assert resized_patches(weight, 14) is weight
