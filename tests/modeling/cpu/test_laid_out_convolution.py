"""Gradients of convolutions are those of Detectron2's, in whichever memory layout they are computed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from mask2former.modeling.cpu import convolution, optimise_for_cpu
from mask2former.modeling.cpu.fused_block import FusedBlock, convolutions

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every processor for one with AVX2 alone, and every image for a large one."""
    monkeypatch.setattr(convolution, "has_avx2_alone", lambda: True)
    monkeypatch.setattr(convolution, "LARGEST_IMAGE", 0)


def image(*size: int) -> Tensor:
    x = torch.randn(*size, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def pair(**options: Any) -> tuple[Conv2d, Conv2d]:
    """Create Detectron2's convolution and the same one in our form."""
    torch.manual_seed(0)
    plain = Conv2d(8, 12, **{"kernel_size": 3, "padding": 1, **options})
    ours = copy.deepcopy(plain)
    optimise_for_cpu(ours)
    return plain, ours


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "norm": nn.GroupNorm(4, 12), "activation": nn.functional.softplus},
        {"stride": 2},
        {"groups": 4},
        {"dilation": 2, "padding": 2},
        {"kernel_size": (1, 5), "padding": (0, 2)},
    ],
)
def test_gradients_are_those_of_the_plain_convolution(options: dict[str, Any], avx2: None) -> None:
    plain, ours = pair(**options)
    x, exact = image(2, 8, 9, 14), image(2, 8, 9, 14).double().detach().requires_grad_()
    result, expected = ours(x), plain.double()(exact)
    weights = torch.linspace(-1, 1, result.numel()).reshape(result.shape)
    (result * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-4, atol=1e-5)
    for (name, of_ours), of_plain in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(of_ours.grad, of_plain.grad.float(), rtol=1e-4, atol=1e-4, msg=name)


def is_ours(result: Tensor) -> bool:
    return type(result.grad_fn).__name__ == "ConvolutionBackward" and not hasattr(result.grad_fn, "_saved_stride")


def test_it_acts_where_it_gains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = pair()
    _, pointwise = pair(kernel_size=1, padding=0)
    size = (1, 8, 40, 50)
    monkeypatch.setattr(convolution, "has_avx2_alone", lambda: True)
    assert not is_ours(ours(image(*size))), "small images"
    monkeypatch.setattr(convolution, "LARGEST_IMAGE", 8 * 40 * 50 - 1)
    assert is_ours(ours(image(*size)))
    assert not is_ours(ours(image(*size).detach().contiguous())), "the plain layout"
    assert not is_ours(pointwise(image(*size)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_ours(ours(image(*size)))
    assert not is_ours(copy.deepcopy(ours).double()(image(*size).double()))
    assert not is_ours(copy.deepcopy(ours).requires_grad_(False)(image(*size)))
    with torch.no_grad():
        assert ours(image(*size)).grad_fn is None
    monkeypatch.setattr(convolution, "has_avx2_alone", lambda: False)
    assert not is_ours(ours(image(*size))), "with AVX-512"


def test_what_the_plain_convolution_takes_is_taken(avx2: None) -> None:
    """Empty batches, images without a batch, padding by its name, and weights that are computed."""
    plain, ours = pair()
    empty = torch.zeros(0, 8, 9, 14).requires_grad_()
    ours(empty).sum().backward()
    assert empty.grad is not None and not ours.weight.grad.any()
    single = image(1, 8, 9, 14)[0]
    torch.testing.assert_close(ours(single), plain(single))
    ours(single).sum().backward()
    _, named = pair(padding="same")
    x = image(1, 8, 9, 14)
    named(x).sum().backward()
    assert x.grad is not None
    _, computed = pair()
    nn.utils.parametrizations.spectral_norm(computed)
    twin = copy.deepcopy(computed)
    torch.testing.assert_close(computed(x), Conv2d.forward(twin, x), rtol=0, atol=0)


def test_second_derivatives_and_functional_gradients(avx2: None) -> None:
    plain, ours = pair()

    def penalty(conv: Conv2d) -> tuple[Tensor, ...]:
        x = image(1, 8, 5, 6)
        first = torch.autograd.grad(conv(x).pow(2).sum(), [x, conv.weight], create_graph=True)
        return torch.autograd.grad(sum(g.pow(2).sum() for g in first), [x, *conv.parameters()])

    for a, b in zip(penalty(ours), penalty(plain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    x = image(1, 8, 5, 6).detach()
    found, expected = (torch.func.grad(lambda x, conv=conv: conv(x).pow(2).sum())(x) for conv in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_folded_block_has_the_same_gradients_in_both_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = BottleneckBlock(8, 16, bottleneck_channels=8, stride=2, norm="FrozenBN")
    found, chosen, real = [], [], convolution.prefers_plain_layout
    monkeypatch.setattr(convolution, "LARGEST_IMAGE", 0)
    monkeypatch.setattr(convolution, "prefers_plain_layout", lambda *x: chosen.append(real(*x)) or chosen[-1])
    for alone in (False, True):
        monkeypatch.setattr(convolution, "has_avx2_alone", lambda alone=alone: alone)
        x = image(2, 8, 16, 16)
        weights = [conv.weight for conv in convolutions(block)]
        result = FusedBlock.apply(block, x, *weights)
        loss = (result * torch.linspace(-1, 1, result.numel()).reshape(result.shape)).sum()
        found.append(torch.autograd.grad(loss, [x, *weights]))
    assert chosen == 2 * [False] + [True, False], "for the 3x3 alone, not for the strided 1x1 of the shortcut"
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
