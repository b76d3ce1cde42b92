"""Plain ViTs written back as timm's files: timm loads them strictly and computes what ours computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from segvit_models import configuration as segvit_configuration

from mask2former.checkpoint.formats import convert, to_ours
from mask2former.checkpoint.timm_form import call_of, timm_form
from mask2former.cli.convert import run as run_convert
from mask2former.modeling.backbone import PlainViT
from mask2former_cli.convert import parser

timm = pytest.importorskip("timm")

SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 4, "mlp_hidden": 96, "image_size": 64, "patch_size": 16}
TABLE = {"class_token": True, "num_registers": 0, "positions": "table", "out_blocks": (0, 2)}
ROTARY = {"positions": "rotary", "num_registers": 4, "key_bias": False, "layer_scale": 1e-5}
CASES: dict[str, dict[str, Any]] = {
    "augreg": {},
    "augreg, patches of 8, registers": {"patch_size": 8, "num_registers": 2},
    "augreg, patches alone": {"class_token": False},
    "augreg, as SegViT has it": {"class_token": False, "final_norm": False},
    "dinov2": {"layer_scale": 1e-5},
    "dinov2, registers": {"layer_scale": 1e-5, "num_registers": 4},
    "dinov2, gated": {"layer_scale": 1e-5, "num_registers": 4, "gated": True},
    "gated without scales": {"gated": True},
    "dinov3": ROTARY,
    "dinov3, gated": ROTARY | {"gated": True},
    "dinov3, bare": ROTARY | {"class_token": False, "num_registers": 1, "final_norm": False},
}


def vit(**changes: Any) -> PlainViT:
    """Build a small ViT with random weights of a size that keeps features near 1."""
    torch.manual_seed(0)
    model = PlainViT(**SMALL | TABLE | changes).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return model


def state_of(model: PlainViT) -> dict[str, torch.Tensor]:
    return {f"backbone.{name}": value for name, value in model.state_dict().items()}


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_timm_loads_strictly_and_computes_the_same(case: str, biased: bool) -> None:
    model = vit(**CASES[case])
    if not biased:  # DINOv3's own have none; the others' stay
        for name, parameter in model.named_parameters():
            if name.endswith(("q_bias", "v_bias")):
                parameter.zero_()
    written = convert(state_of(model), "timm")
    assert biased or not any(name.endswith(("q_bias", "v_bias")) for name in written)
    name, arguments = timm_form(written)
    theirs = timm.create_model(name, num_heads=SMALL["num_heads"], **arguments).eval()
    theirs.load_state_dict(written, strict=True)
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6  # as ours; timm's DINOv3 adds 1e-5
    images = torch.randn(2, 3, 64, 64)
    tokens, grid = model.embed(images)
    for block in model.blocks:
        tokens = block(tokens, model.rotation(grid, images.device))
    torch.testing.assert_close(theirs.forward_features(images), model.norm(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case: str) -> None:
    state = state_of(vit(**CASES[case]))
    format, back = to_ours(convert(state, "timm"), state)
    assert format == "timm ViT" and back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_huge_patch14_224",
        "vit_base_patch14_dinov2",
        "vit_giant_patch14_reg4_dinov2",
        "vit_small_plus_patch16_dinov3",
        "vit_7b_patch16_dinov3",
    ],
)
def test_timms_own_names_are_found(name: str) -> None:
    """On the meta device, where no size takes memory."""
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=0).state_dict()
    written = convert(theirs, "timm")
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in theirs.items()}
    classifier = {"num_classes": 0} if name.endswith("224") else {}
    assert timm_form(written) == (name, classifier)


def test_a_whole_checkpoint_gives_its_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build_model(segvit_configuration())
    source, goal = str(tmp_path / "segvit.pth"), str(tmp_path / "vit.pth")
    torch.save({"model": model.state_dict()}, source)
    assert run_convert(parser("convert").parse_args([source, goal, "--to", "timm"])) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    call = printed.removeprefix("loads by load_state_dict in ").partition(" with N")[0]
    assert call.endswith("num_heads=N)")
    theirs = eval(call, {"timm": timm, "N": 4})  # what a reader would paste
    theirs.load_state_dict(torch.load(goal, weights_only=True), strict=True)
    assert torch.equal(theirs.blocks[2].mlp.fc1.weight, model.backbone.blocks[2].mlp.fc1.weight)


def test_the_call_of_a_published_size_has_no_numbers_to_fill_in() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("vit_base_patch14_reg4_dinov2", img_size=640, patch_size=16).state_dict()
    assert call_of(theirs) == "timm.create_model('vit_base_patch14_reg4_dinov2', img_size=640, patch_size=16)"


def test_what_timm_has_no_form_of_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of plain ViTs .*its backbone has stem"):
        convert({"backbone.stem.conv1.weight": torch.ones(1)}, "timm")
    with pytest.raises(ValueError, match="there is no backbone in it"):
        convert({"sem_seg_head.pixel_decoder.x": torch.ones(1)}, "timm")
    with pytest.raises(ValueError, match="rotary positions and a bias of keys"):
        convert(state_of(vit(**ROTARY | {"key_bias": True})), "timm")
    with pytest.raises(ValueError, match="rotary positions and without scales"):
        convert(state_of(vit(**ROTARY | {"layer_scale": 0.0})), "timm")
    with pytest.raises(ValueError, match="position table and without a bias of keys"):
        convert(state_of(vit(key_bias=False)), "timm")
