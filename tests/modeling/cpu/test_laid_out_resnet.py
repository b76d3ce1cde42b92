"""A ResNet that trains in several memory layouts gives what Detectron2's gives, and its parameters keep theirs."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn

from mask2former.modeling.cpu import optimise_for_cpu
from mask2former.modeling.cpu.laid_out_resnet import can_lay_out

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
NAMES = ["stem", "res2", "res3", "res4", "res5"]


def resnet(bottleneck: bool) -> ResNet:
    stages, before = [], 8
    for index, out in enumerate([16, 32, 64, 128]):
        more = {"bottleneck_channels": out // 4} if bottleneck else {}
        stages.append(
            ResNet.make_stage(
                *(BottleneckBlock if bottleneck else BasicBlock, 2),
                stride_per_block=[1 if index == 0 else 2, 1],
                in_channels=before, out_channels=out, norm="BN", **more,
            )
        )  # fmt: skip
        before = out
    return ResNet(BasicStem(3, 8, norm="BN"), stages, out_features=NAMES).double().train()


def step(model: ResNet, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return features, and gradients by parameter, of a loss that weighs every number differently."""
    features = model(images)
    loss = sum((x.double() * torch.linspace(-1, 1, x.numel()).reshape(x.shape)).mean() for x in features.values())
    loss.backward()
    return features, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_training_step_is_detectron2s(bottleneck: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Smooth: rounding moves some numbers over the kink of a ReLU, by which gradients differ far more than it.
    monkeypatch.setattr(nn.functional, "relu_", nn.functional.softplus)  # what Detectron2's ResNet calls
    torch.manual_seed(0)
    exact = resnet(bottleneck)  # float64, which is left alone
    plain, ours = copy.deepcopy(exact).float(), copy.deepcopy(exact).float()
    optimise_for_cpu(ours)
    images = torch.randn(2, 3, 128, 160)
    assert can_lay_out(ours, images) and not can_lay_out(exact, images.double())
    expected, gradients = step(exact, images.double())
    (_, rounded), (features, found) = step(plain, images), step(ours, images)
    assert list(features) == list(expected) == NAMES
    for name, value in expected.items():
        torch.testing.assert_close(features[name].double(), value, atol=1e-4, rtol=1e-4)
    for name, value in gradients.items():
        error, usual = (found[name] - value).norm(), (rounded[name] - value).norm()
        assert error < 3 * usual + 1e-4 * value.norm(), name
        assert found[name].is_contiguous() and dict(ours.named_parameters())[name].is_contiguous(), name
    for name, value in exact.state_dict().items():
        torch.testing.assert_close(
            ours.state_dict()[name].to(value.dtype), value, atol=1e-5, rtol=1e-4
        )  # statistics too
    # The last stage has 2 x 4 x 5 positions for 128 channels; those before have more positions than channels.
    last = [x.is_contiguous(memory_format=torch.channels_last) for x in features.values()]
    assert last == [True, True, True, True, False]


def test_graphs_and_inference_are_left_alone() -> None:
    model, images = resnet(False).float(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not can_lay_out(model, images)
    with torch.autocast("cpu"):
        assert not can_lay_out(model, images)
    optimise_for_cpu(model)
    traced = torch.jit.trace(model, images, check_trace=False, strict=False)
    assert all(x.is_contiguous() for x in traced(images).values())
    assert not model(images)["res2"].is_contiguous()
