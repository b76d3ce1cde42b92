"""Published differences and a backbone's own weights add up to a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mask2former.checkpoint import eomt
from mask2former.checkpoint.differences import add_differences
from mask2former_cli import run_command

timm = pytest.importorskip("timm")

HEAD = {
    "sem_seg_head.q.weight": (5, 48),
    "sem_seg_head.class_head.bias": (4,),
    "sem_seg_head.class_head.weight": (4, 48),
}


def base(depth: int = 2, width: int = 48) -> dict[str, Tensor]:
    """Weights of a small DINOv3 from timm, which leaves out the biases that are 0."""
    model = timm.create_model("vit_small_patch16_dinov3", img_size=64, embed_dim=width, depth=depth, num_heads=4)
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


def ours(own: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {
        name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): value for name, value in own.items()
    }
    return {f"backbone.{name}": value for name, value in renamed.items() if "k_bias" not in name}


def trained(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model on that backbone under our names, with the biases that are learnt on from 0."""
    weights = {name: torch.randn_like(value) for name, value in ours(own).items()}
    weights |= {f"backbone.blocks.0.attn.{part}_bias": torch.randn(48) for part in ("q", "v")}
    weights["backbone.extra.weight"] = torch.randn(48)
    return weights | {name: torch.randn(shape) for name, shape in HEAD.items()}


def differences(model: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    before = ours(own)
    return eomt.to_published({name: value - before.get(name, 0) for name, value in model.items()})


def test_the_command_restores_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = base()
    model = trained(own)
    torch.save(differences(model, own), tmp_path / "difference.bin")
    save_file(own, tmp_path / "dinov3.safetensors")
    words = [str(tmp_path / "difference.bin"), str(tmp_path / "model.pth"), "--to", "ours"]
    assert not run_command("convert", [*words, "--base", str(tmp_path / "dinov3.safetensors")])
    said = capsys.readouterr().out
    assert "lacks these" in said and said.count("backbone.") == 1 and "backbone.extra.weight" in said
    restored = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    assert set(restored) == set(model)
    for name, value in model.items():
        torch.testing.assert_close(restored[name], value, msg=name)


def test_half_a_format_cuts_nothing_off_the_base() -> None:
    own = base()
    model = trained(own)
    half = {name: value.half() if "encoder" in name else value for name, value in differences(model, own).items()}
    restored, _ = add_differences(half, own)
    name = "backbone.blocks.0.attn.qkv.weight"
    assert restored[name].dtype == torch.float32
    expected = half["network.encoder." + name].float() + own["blocks.0.attn.qkv.weight"]
    assert torch.equal(restored[name], expected)


def test_a_base_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = base()
    found = differences(trained(own), own)
    with pytest.raises(ValueError, match=r"has shape \(48, 3, 16, 16\), but \(64, 3, 16, 16\)|has shape \(1, 1, 48\)"):
        add_differences(found, base(width=64))
    with pytest.raises(ValueError, match="has none of the backbone's"):
        add_differences(found, {"stem.conv1.weight": torch.zeros(3)})
    assert run_command("convert", ["in.bin", str(tmp_path / "folder"), "--to", "hf", "--base", "x"]) == 2
    assert "give OUT a suffix" in capsys.readouterr().err
