"""Swin against Hugging Face's, with the same weights."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from mask2former import add_maskformer2_config
from mask2former.checkpoint.hf import from_hf
from mask2former.modeling import D2SwinTransformer
from mask2former.modeling.layers.window_attention import WindowGrid

FEATURES = ("res2", "res3", "res4", "res5")
SMALL = {"embed_dim": 12, "depths": (2, 1, 3, 2), "num_heads": (1, 2, 3, 4), "window_size": 4}


def randomise(module: nn.Module) -> None:
    """Weights of a size at which every part of the network matters."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "table" in name:
                parameter.normal_()
            elif parameter.dim() == 1:
                parameter.normal_(std=0.2).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            else:
                parameter.normal_(std=1.5 * parameter[0].numel() ** -0.5)


def oracle_and_ours(**change: object) -> tuple[nn.Module, D2SwinTransformer]:
    hf = pytest.importorskip("transformers.models.swin.modeling_swin")
    ours = D2SwinTransformer(**SMALL, **change).eval()
    config = hf.SwinConfig(
        **{k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items()},
        qkv_bias=bool(change.get("qkv_bias", True)),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    theirs = hf.SwinBackbone(config).eval()
    randomise(theirs)
    prefix = "model.pixel_level_module.encoder."
    converted = from_hf({prefix + name: value for name, value in theirs.state_dict().items()})
    ours.load_state_dict({name.removeprefix("backbone."): value for name, value in converted.items()}, strict=True)
    return theirs, ours


# Whole windows; odd maps; images of no whole patches; a map smaller than a window.
@pytest.mark.parametrize("size", [(256, 128), (200, 264), (151, 226), (97, 61)], ids=str)
@pytest.mark.parametrize("qkv_bias", [True, False])
@torch.no_grad()
def test_every_feature_equals_the_oracle(size: tuple[int, int], qkv_bias: bool) -> None:
    theirs, ours = oracle_and_ours(qkv_bias=qkv_bias)
    images = torch.randn(2, 3, *size)
    expected = theirs(images).feature_maps
    found = ours(images)
    assert list(found) == list(FEATURES)
    for (name, feature), other in zip(found.items(), expected, strict=True):
        shape = ours.output_shape()[name]
        assert feature.shape[1] == shape.channels == SMALL["embed_dim"] * shape.stride // 4
        torch.testing.assert_close(feature, other, atol=1e-4, rtol=0)


def test_gradients_equal_the_oracle() -> None:
    theirs, ours = (model.double() for model in oracle_and_ours())
    images = torch.randn(2, 3, 75, 130, dtype=torch.float64)
    sum(x.square().sum() for x in theirs(images).feature_maps).backward()
    sum(x.square().sum() for x in ours(images).values()).backward()
    prefix = "model.pixel_level_module.encoder."
    grads = {prefix + name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    expected = {name.removeprefix("backbone."): grad for name, grad in from_hf(grads).items()}
    found = {name: p.grad for name, p in ours.named_parameters()}
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], msg=lambda m, name=name: f"{name}: {m}")


def test_recomputed_activations_give_the_same_gradients() -> None:
    plain = D2SwinTransformer(**SMALL, drop_path_rate=0.4, drop_rate=0.1, attn_drop_rate=0.1)
    randomise(plain)
    thrifty = D2SwinTransformer(**SMALL, drop_path_rate=0.4, drop_rate=0.1, attn_drop_rate=0.1, use_checkpoint=True)
    thrifty.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 72, 100)
    for model in (plain, thrifty):
        torch.manual_seed(1)
        sum(x.square().mean() for x in model(images).values()).backward()
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=lambda m, name=name: f"{name}: {m}")


def saved(model: nn.Module) -> int:
    """Count the numbers that a forward pass keeps for the backward pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(1, 3, 64, 64))
    return sum(sizes)


def test_recomputing_keeps_fewer_activations() -> None:
    assert saved(D2SwinTransformer(**SMALL, use_checkpoint=True)) < 0.5 * saved(D2SwinTransformer(**SMALL))


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (3, 9), (1, 1)])
@pytest.mark.parametrize("window", [1, 2, 4, 7])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_are_cut_and_joined(size: tuple[int, int], window: int, shifted: bool) -> None:
    x = torch.randn(2, *size, 3)
    grid = WindowGrid(size, window, x.device)
    windows = grid.cut(x, shifted=shifted)
    assert windows.shape == (2, -(-size[0] // window) * -(-size[1] // window), window**2, 3)
    assert torch.equal(grid.join(windows, shifted=shifted), x)


def test_shifted_windows_see_only_neighbours() -> None:
    """Two pixels of a shifted window look at each other exactly if they are in one window of the shifted grid."""
    height, width, window = 8, 12, 4
    grid = WindowGrid((height, width), window, torch.device("cpu"))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = grid.cut(torch.stack([y, x], dim=-1)[None], shifted=True)[0]  # [windows, M * M, (y, x)]
    cell = (place + window - grid.shift) // window  # of a grid moved down and right by half a window, never wrapped
    together = (cell[:, :, None] == cell[:, None]).all(dim=-1)
    assert torch.equal(grid.shift_mask[:, 0] == 0, together)
    assert grid.shift_mask[:, 0][~together].unique().tolist() == [-100.0]


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast(precision: torch.dtype) -> None:
    model = D2SwinTransformer(**SMALL)
    images = torch.randn(1, 3, 64, 96)
    expected = model(images)
    with torch.autocast("cpu", precision):
        found = model(images)
        sum(x.float().square().mean() for x in found.values()).backward()
    for name in FEATURES:
        torch.testing.assert_close(found[name].float(), expected[name], atol=0.1, rtol=0.1)


def configured(**values: object) -> nn.Module:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    for key, value in values.items():
        cfg.MODEL.SWIN[key] = value
    return build_backbone(cfg, ShapeSpec(channels=3))


def test_configuration_defaults_are_swin_tiny() -> None:
    model = configured()
    assert isinstance(model, D2SwinTransformer) and model.size_divisibility == 32
    assert {k: (v.channels, v.stride) for k, v in model.output_shape().items()} == {
        "res2": (96, 4),
        "res3": (192, 8),
        "res4": (384, 16),
        "res5": (768, 32),
    }
    rates = [block.drop_path.p for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.3 * index / 11 for index in range(12)])


def test_every_key_of_the_configuration_is_heeded() -> None:
    values: dict[str, object] = {
        "PRETRAIN_IMG_SIZE": 96,
        "PATCH_SIZE": 8,
        "EMBED_DIM": 16,
        "DEPTHS": [1, 2],
        "NUM_HEADS": [2, 4],
        "WINDOW_SIZE": 3,
        "MLP_RATIO": 2.0,
        "QKV_BIAS": False,
        "QK_SCALE": 0.5,
        "DROP_RATE": 0.1,
        "ATTN_DROP_RATE": 0.2,
        "DROP_PATH_RATE": 0.4,
        "APE": True,
        "PATCH_NORM": False,
        "OUT_FEATURES": ["res3"],
    }
    model = configured(USE_CHECKPOINT=True, **values)
    block = model.layers[1].blocks[1]
    assert model.absolute_pos_embed.shape == (1, 16, 12, 12)
    assert [len(stage.blocks) for stage in model.layers] == [1, 2]
    assert block.attn.num_heads == 4 and block.attn.relative_position_bias_table.shape == (25, 4)
    assert block.attn.qkv.bias is None and block.attn.qk_scale == 0.5 and block.attn.attention_dropout == 0.2
    assert block.mlp.fc1.out_features == 64 and block.drop_path.p == pytest.approx(0.4)
    assert block.mlp.dropout.p == block.attn.dropout.p == model.dropout.p == 0.1
    assert isinstance(model.patch_embed.norm, nn.Identity) and saved(model) < saved(configured(**values))
    features = model(torch.randn(1, 3, 40, 50))
    assert {name: tuple(x.shape) for name, x in features.items()} == {"res3": (1, 32, 3, 4)}
    features["res3"].sum().backward()
    assert all(p.grad is not None for p in model.parameters())  # nothing is built that is not used


@torch.no_grad()
def test_absolute_position_is_added_and_resized() -> None:
    model = D2SwinTransformer(**SMALL, absolute_position=64).eval()
    without = copy.deepcopy(model)
    without.absolute_pos_embed.zero_()
    same, larger = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 96)
    for images in (same, larger):
        assert not torch.equal(model(images)["res2"], without(images)["res2"])
    model.absolute_pos_embed.fill_(0.25)  # a constant stays one at any size
    without.patch_embed.norm.bias += 0.25
    for images in (same, larger):
        torch.testing.assert_close(model(images)["res5"], without(images)["res5"])


@torch.no_grad()
def test_scale_of_the_attention() -> None:
    """Twice the scale is as twice the queries."""
    usual = D2SwinTransformer(**SMALL, qk_scale=0.7).eval()
    randomise(usual)
    double = D2SwinTransformer(**SMALL, qk_scale=1.4).eval()
    double.load_state_dict(usual.state_dict())
    for name, parameter in usual.named_parameters():
        if ".qkv." in name:
            parameter[: len(parameter) // 3] *= 2
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(usual(images)["res5"], double(images)["res5"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_features": ["res6"]}, "res6"),
        ({"out_features": []}, "none to give"),
        ({"num_heads": (1, 2)}, "4 depths, 2 heads"),
        ({"num_heads": (5, 2, 3, 4)}, "12 channels cannot be divided among 5"),
    ],
)
def test_impossible_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        D2SwinTransformer(**{**SMALL, **change})
