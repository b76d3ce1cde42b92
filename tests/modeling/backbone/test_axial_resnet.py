"""The axial ResNet without a memory: features, blocks against their formulas, and use below Mask2Former's head."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from small_models import configuration, max_deeplab
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.backbone.axial_block import Kind, ResidualBlock
from mask2former.modeling.backbone.axial_resnet import AxialLayout, D2AxialResNet
from mask2former.modeling.layers.batch_norm import BatchNorm

SMALL = AxialLayout(stem=(4, 8), depths=(1, 1, 1, 2, 1), channels=(8, 16, 32, 32, 64), num_heads=2)


def backbone(layout: AxialLayout = SMALL, names: tuple[str, ...] = ("res2", "res3", "res4", "res5")) -> D2AxialResNet:
    torch.manual_seed(0)
    return D2AxialResNet(layout, names)


@pytest.mark.parametrize("size", [(33, 49), (32, 64), (50, 37)])
@torch.no_grad()
def test_features_have_the_promised_shapes(size: tuple[int, int]) -> None:
    model = backbone().eval()
    features = model(torch.randn(1, 3, *size))
    assert list(features) == ["res2", "res3", "res4", "res5"]
    for name, shape in model.output_shape().items():
        assert shape.channels is not None and shape.stride is not None
        sides = tuple(-(-side // shape.stride) for side in size)
        assert features[name].shape == (1, shape.channels, *sides) and features[name].min() >= 0
    assert [shape.stride for shape in model.output_shape().values()] == [4, 8, 16, 16]


def slow(block: ResidualBlock, x: Tensor) -> Tensor:
    state = block.state_dict()

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        statistics = (state[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        mean, variance, scale, shift = (value[:, None, None] for value in statistics)
        return (x - mean) / (variance + 1e-3).sqrt() * scale + shift

    x = x.clamp(min=0)
    kept = (
        conv("shortcut", x, block.stride)
        if "shortcut.conv.weight" in state
        else x[..., :: block.stride, :: block.stride]
    )
    if block.kind == "basic":
        return kept + conv("conv2_bn", conv("conv1_bn_act", x, block.stride).clamp(min=0))
    x = conv("conv1_bn_act", x).clamp(min=0)
    x = conv("conv2_bn_act", x, block.stride) if block.kind == "bottleneck" else block.attention(x)
    return kept + conv("conv3_bn", x.clamp(min=0))


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "axial"])
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (8, 2), (4, 1), (4, 2)])
@torch.no_grad()
def test_blocks_equal_their_formulas(kind: Kind, channels: int, stride: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(channels, 8, kind=kind, stride=stride, num_heads=2).double().eval()
    for norm in block.modules():
        if isinstance(norm, BatchNorm):
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.running_mean)
    x = torch.randn(2, channels, 7, 5).double()
    torch.testing.assert_close(block(x), slow(block, x), rtol=1e-10, atol=1e-10)


def test_start_of_the_weights() -> None:
    """He's deviation, corrected for the cut at two deviations."""
    torch.manual_seed(0)
    block = ResidualBlock(64, 256, kind="basic")
    assert block.conv1_bn_act.conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert block.conv1_bn_act.conv.weight.abs().max().item() <= 2 * (2 / (64 * 9)) ** 0.5 / 0.8796
    assert not block.conv2_bn.norm.weight.any()


def test_mask2formers_head_takes_its_features() -> None:
    cfg = configuration()
    small = max_deeplab().MODEL.AXIAL_RESNET
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.AXIAL_RESNET = "D2AxialResNet", small
    cfg.MODEL.MASK_FORMER.CRITERION = "AllOutputs"
    torch.manual_seed(0)
    model = build_model(cfg).train()
    prediction = model.network(torch.randn(2, 3, 64, 64))
    assert prediction.masks.size == (16, 16)
    (loss,) = model.criterion(prediction, None).values()
    loss.backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    result = model.eval()([{"image": torch.rand(3, 40, 50) * 255}])[0]
    assert result["sem_seg"].shape == (7, 40, 50)


def test_weights_are_those_of_the_network_with_a_memory() -> None:
    """So a ResNet that was pre-trained without a memory is a start for MaX-DeepLab."""
    cfg = max_deeplab()
    whole = build_backbone(cfg)
    cfg.MODEL.BACKBONE.NAME = "D2AxialResNet"
    plain = build_backbone(cfg)
    missing, unexpected = whole.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all("_transformer." in name or "_extra" in name or name == "memory_feature" for name in missing)


def test_constant_drop_path_is_the_papers() -> None:
    layout = AxialLayout(drop_path_linear=False, drop_path_from=4)
    assert [layout.drop_path_at(stride) for stride in (2, 4, 8, 16, 32)] == [0, 0.2, 0.2, 0.2, 0.2]
    assert [round(AxialLayout().drop_path_at(stride), 6) for stride in (4, 8, 16, 32)] == [0, 0, 0.15, 0.2]


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"OUT_FEATURES names \['res1'\]; choose from res2"):
        backbone(names=("res1",))
