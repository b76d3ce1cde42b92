"""ResNet with folded norms gives what Detectron2's gives, and is used only where nobody can tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import BatchNorm2d, Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.cpu import fused_block, optimise_for_cpu
from mask2former.modeling.cpu.fused_block import folded
from mask2former.modeling.cpu.fused_resnet import can_fuse, fused_resnet
from mask2former.processor import fuses_convolutions

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")


def resnet(depth: int, norm: str, **options: object) -> ResNet:
    block = BasicBlock if depth < 50 else BottleneckBlock
    channels = [8, 16, 32, 64] if block is BasicBlock else [32, 64, 128, 256]
    stages, before = [], 8
    for index, out in enumerate(channels):
        more = {} if block is BasicBlock else {"bottleneck_channels": out // 4, "stride_in_1x1": False} | options
        stages.append(
            ResNet.make_stage(
                *(block, 2), stride_per_block=[1 if index == 0 else 2, 1], in_channels=before, out_channels=out,
                norm=norm, **more,
            )
        )  # fmt: skip
        before = out
    model = ResNet(BasicStem(3, 8, norm=norm), stages, out_features=["stem", "res2", "res3", "res5"]).eval()
    for module in model.modules():
        if isinstance(module, BatchNorm2d | FrozenBatchNorm2d | nn.SyncBatchNorm):
            for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                getattr(module, name).data.uniform_(low, low + 1)
    return model


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "SyncBN"])
@torch.no_grad()
def test_same_features(depth: int, norm: str) -> None:
    model, images = resnet(depth, norm), torch.randn(2, 3, 64, 96)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = images.clone()
    assert can_fuse(model, images)
    expected, found = model(images), fused_resnet(model, images)
    assert list(found) == list(expected)
    for name in expected:
        assert (found[name] - expected[name]).abs().max() < 1e-5 * expected[name].abs().max(), name
    assert torch.equal(images, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_weights_may_change() -> None:
    model, images = resnet(18, "BN"), torch.randn(1, 3, 64, 64)
    fused_resnet(model, images)
    model.stages[1][0].conv1.norm.running_mean.data.add_(0.7)
    torch.testing.assert_close(fused_resnet(model, images)["res5"], model(images)["res5"], atol=1e-5, rtol=1e-4)


def convolve_double(conv: Conv2d, x: Tensor, activation: str = "none") -> Tensor:
    """As the fused operator, which knows no float64."""
    result = F.conv2d(x, *folded(conv, x.dtype), conv.stride, conv.padding, conv.dilation, conv.groups)
    return result.relu() if activation == "relu" else result


@pytest.mark.parametrize("options", [{}, {"stride_in_1x1": True}, {"num_groups": 2}])
@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("frozen", [[], ["stem", "res2"], ["res3.0.conv1", "res4.0.shortcut"]])
def test_same_gradients(depth: int, options: dict, frozen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64: in float32, rounding decides on which side of a ReLU's kink some values are."""
    if depth == 18 and options:
        pytest.skip("basic blocks have no such option")
    monkeypatch.setattr(fused_block, "convolve", convolve_double)
    monkeypatch.setattr(fused_block, "convolve_and_add", lambda c, x, other: (convolve_double(c, x) + other).relu())
    model = resnet(depth, "FrozenBN", **options).double().train()
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    assert can_fuse(model, images.float())
    results = []
    for features in (model(images), fused_resnet(model, images)):
        model.zero_grad()
        sum(value.square().mean() for value in features.values()).backward()
        results.append([*features.values(), *(p.grad for p in model.parameters())])
    for expected, found in zip(*results, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected)


def gradients_of(model: ResNet, images: Tensor, forward: Callable[[Tensor], dict[str, Tensor]]) -> Tensor:
    model.zero_grad()
    sum(value.float().square().mean() for value in forward(images).values()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_gradients_belong_to_the_weights_of_the_forward_pass() -> None:
    model, images = resnet(50, "FrozenBN").train(), torch.randn(1, 3, 64, 64)
    others = {name: (2 * p.detach()).requires_grad_() for name, p in model.named_parameters()}
    results = []
    for function in (model, Folded(model)):
        prefix = "" if function is model else "model."
        named = {prefix + name: p for name, p in others.items()}
        features = torch.func.functional_call(function, named, images)
        gradients = torch.autograd.grad(sum(x.square().mean() for x in features.values()), list(others.values()))
        results.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert (results[1] - results[0]).norm() < 1e-3 * results[0].norm()


class Folded(torch.nn.Module):
    def __init__(self, model: ResNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return fused_resnet(self.model, images)


def test_backward_within_autocast_and_from_a_checkpoint() -> None:
    model, images = resnet(50, "FrozenBN").train(), torch.randn(1, 3, 64, 64)
    expected = gradients_of(model, images, lambda x: fused_resnet(model, x))
    recomputed = gradients_of(model, images, lambda x: checkpoint(fused_resnet, model, x, use_reentrant=False))
    assert torch.equal(recomputed, expected)
    loss = sum(value.square().mean() for value in fused_resnet(model, images).values())
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss.backward()
    assert torch.equal(torch.cat([p.grad.flatten() for p in model.parameters()]), expected)


@pytest.mark.parametrize("depth", [18, 50])
def test_trains_in_single_precision(depth: int) -> None:
    model, images = resnet(depth, "FrozenBN").train(), torch.randn(2, 3, 64, 96)
    results = []
    for features in (model(images), fused_resnet(model, images)):
        model.zero_grad()
        sum(value.square().mean() for value in features.values()).backward()
        results.append((features, torch.cat([p.grad.flatten() for p in model.parameters()])))
    (expected, wanted), (found, gradients) = results
    for name in expected:
        assert (found[name] - expected[name]).abs().max() < 1e-5 * expected[name].abs().max(), name
    assert (gradients - wanted).norm() < 1e-3 * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(dtype: torch.dtype) -> None:
    """It is used where the processor has the instructions; what PyTorch does itself is right everywhere."""
    model, images = resnet(50, "FrozenBN"), torch.randn(1, 3, 64, 64)
    exact = model(images)["res5"]
    with torch.autocast("cpu", dtype):
        assert can_fuse(model, images) == fuses_convolutions(dtype)
        ways = [model, lambda x: fused_resnet(model, x)] if can_fuse(model, images) else [model]
        for way in ways:
            found = way(images)["res5"]
            assert found.dtype == dtype
            assert (found.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_where_it_is_not_used() -> None:
    model, images = resnet(18, "BN"), torch.randn(1, 3, 64, 64)
    assert not can_fuse(model, images)  # gradients of the norms
    frozen = resnet(18, "FrozenBN").train()
    assert can_fuse(frozen, images)
    checkpoint_activations(["backbone"], {"backbone": frozen})
    assert not can_fuse(frozen, images)
    with torch.no_grad():
        assert can_fuse(model, images)
        assert not can_fuse(model.train(), images)  # statistics of the batch
        assert not can_fuse(resnet(18, ""), images)
        assert not can_fuse(torch.nn.Identity(), images)
        conv = model.eval().stages[0][0].conv1
        for watch in (conv.register_forward_hook, conv.register_full_backward_hook):
            handle = watch(lambda *_: None)
            assert not can_fuse(model, images)
            handle.remove()
            assert can_fuse(model, images)


@torch.no_grad()
def test_not_where_onednn_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = resnet(18, "BN"), torch.randn(1, 3, 64, 64)
    assert can_fuse(model, images)
    assert not can_fuse(model.double(), images.double())
    with torch.backends.mkldnn.flags(enabled=False):
        assert not can_fuse(model.float(), images)
    monkeypatch.setattr(torch.ops, "mkldnn", object())  # as in a build without the operators
    assert not can_fuse(model.float(), images)


@torch.no_grad()
def test_the_attached_form_falls_back_on_detectron2s() -> None:
    """It fuses where that is allowed, whoever watches the backbone itself, and runs Detectron2's own elsewhere."""
    model, images = resnet(18, "BN"), torch.randn(1, 3, 64, 64)
    expected = model(images)["res5"]
    optimise_for_cpu(model)
    seen = []
    model.register_forward_hook(lambda *_: seen.append("whole"))
    inner = model.stages[0][0].conv1
    for watched in (False, True):
        if watched:
            inner.register_forward_hook(lambda *_: seen.append("inner"))
        assert can_fuse(model, images) != watched
        torch.testing.assert_close(model(images)["res5"], expected, atol=1e-5, rtol=1e-4)
    assert seen == ["whole", "inner", "whole"]
