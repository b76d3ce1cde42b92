"""The dual-path block against its formulas, number by number in float64, and each of its attentions switched off."""

from __future__ import annotations

import math
from itertools import chain, combinations

import pytest
import torch
from torch import Tensor

from mask2former.modeling.layers.batch_norm import BatchNorm
from mask2former.modeling.layers.dual_path import DualPathBlock

PIXELS, MEMORY, KEY, HIDDEN, HEADS = 5, 6, 4, 7, 2
SWITCHES = ("M2P", "M2M", "P2M")
SUBSETS = list(chain.from_iterable(combinations(SWITCHES, count) for count in range(4)))


def block(attentions: tuple[str, ...] = SWITCHES) -> DualPathBlock:
    torch.manual_seed(0)
    module = DualPathBlock(
        PIXELS, MEMORY, key_channels=KEY, feed_forward=HIDDEN, num_heads=HEADS, attentions=attentions
    ).double()
    for norm in module.modules():
        if isinstance(norm, BatchNorm):
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return module


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, PIXELS, 2, 3).double(), torch.randn(batch, MEMORY, 4).double()


class Oracle:
    """The formulas over lists of vectors: x[b][i] is a vector of image b."""

    def __init__(self, module: DualPathBlock) -> None:
        self.state, self.training = module.state_dict(), module.training

    def norm(self, name: str, values: Tensor, channel: int) -> Tensor:
        """Normalise all values of one channel."""
        part = {key: self.state[f"{name}.{key}"][channel] for key in ("weight", "bias", "running_mean", "running_var")}
        mean, variance = part["running_mean"], part["running_var"]
        if self.training:
            mean = values.sum() / values.numel()
            variance = ((values - mean) ** 2).sum() / values.numel()
        return (values - mean) / torch.sqrt(variance + 0.001) * part["weight"] + part["bias"]

    def vectors(self, name: str, x: Tensor) -> Tensor:
        """Normalise x [B, L, C] channel by channel."""
        return torch.stack([self.norm(name, x[..., c], c) for c in range(x.shape[-1])], -1)

    def map(self, name: str, x: Tensor) -> Tensor:
        return self.vectors(f"{name}.norm", x @ self.state[f"{name}.conv.weight"][:, :, 0].T)

    def attend(self, name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend; [B, L, C], [B, S, C], [B, S, C'] -> [B, L, C']."""
        batch, length, width, values = len(query), query.shape[1], KEY // HEADS, 2 * KEY // HEADS
        result = torch.zeros(batch, length, 2 * KEY, dtype=query.dtype)
        for head in range(HEADS):
            own, wide = slice(head * width, (head + 1) * width), slice(head * values, (head + 1) * values)
            logits = torch.zeros(batch, length, key.shape[1], dtype=query.dtype)
            for b in range(batch):
                for i in range(length):
                    for j in range(key.shape[1]):
                        logits[b, i, j] = sum(query[b, i, own] * key[b, j, own])
            logits = self.norm(f"{name}._batch_norm_similarity", logits, head)
            for b in range(batch):
                for i in range(length):
                    weights = [math.exp(logit) for logit in logits[b, i].tolist()]
                    for j, weight in enumerate(weights):
                        result[b, i, wide] += weight / sum(weights) * value[b, j, wide]
        return self.vectors(f"{name}._batch_norm_retrieved_value", result).clamp(min=0)

    def __call__(self, pixels: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        flat, m = pixels.flatten(2).transpose(1, 2), memory.transpose(1, 2)
        u = self.map("memory_conv1_bn_act", m).clamp(min=0)
        x = self.map("pixel_conv1_bn_act", flat.clamp(min=0)).clamp(min=0)
        qm, km, vm = self.map("memory_qkv_conv_bn", u).split([KEY, KEY, 2 * KEY], -1)
        qp, kp, vp = self.map("pixel_qkv_conv_bn", x).split([KEY, KEY, 2 * KEY], -1)
        of_memory = self.attend("memory_attention", qm, torch.cat([kp, km], 1), torch.cat([vp, vm], 1))
        of_pixels = self.attend("pixel_attention", qp, km, vm)
        m = (m + self.map("memory_conv3_bn", of_memory)).clamp(min=0)
        hidden = self.map("memory_ffn_conv1_bn_act", m).clamp(min=0)
        m = (m + self.map("memory_ffn_conv2_bn", hidden)).clamp(min=0)
        p = flat + self.map("pixel_conv3_bn", of_pixels)
        return p.transpose(1, 2).unflatten(2, pixels.shape[-2:]), m.transpose(1, 2)


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_block_equals_its_formulas(training: bool) -> None:
    module = block().train(training)
    pixels, memory = inputs()
    expected = Oracle(module)(pixels, memory)
    for found, value in zip(module(pixels, memory), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)


def test_a_new_block_is_the_identity_on_pixels() -> None:
    module = DualPathBlock(PIXELS, MEMORY, key_channels=KEY, feed_forward=HIDDEN, num_heads=HEADS)
    pixels, memory = (x.float() for x in inputs())
    found, updated = module(pixels, memory)
    torch.testing.assert_close(found, pixels)
    torch.testing.assert_close(updated, memory.relu())


@pytest.mark.parametrize("attentions", SUBSETS)
def test_each_attention_carries_what_its_name_says(attentions: tuple[str, ...]) -> None:
    """Compare what a change of one pixel, or of one slot, changes elsewhere."""
    module = block(attentions).eval()
    pixels, memory = inputs(1)
    first_pixels, first_memory = module(pixels, memory)
    other_pixels = pixels.clone()
    other_pixels[..., 0, 0] += 1
    found_pixels, found_memory = module(other_pixels, memory)
    assert torch.equal(found_memory, first_memory) != ("M2P" in attentions)
    assert torch.equal(found_pixels[..., 1, :], first_pixels[..., 1, :])  # pixels do not see each other here
    other_memory = memory.clone()
    other_memory[..., 0] += 1
    found_pixels, found_memory = module(pixels, other_memory)
    assert torch.equal(found_pixels, first_pixels) != ("P2M" in attentions)
    assert torch.equal(found_memory[..., 1:], first_memory[..., 1:]) != ("M2M" in attentions)


@pytest.mark.parametrize("attentions", SUBSETS)
def test_no_parameter_is_without_use(attentions: tuple[str, ...]) -> None:
    module = block(attentions).train()
    pixels, memory = inputs()
    sum(x.square().sum() for x in module(pixels.requires_grad_(), memory)).backward()
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]


def test_dropped_branches_leave_the_rest() -> None:
    """At a probability of 1 every branch of every image is dropped, and what is left is the identity."""
    module = block()
    module.drop_path.p = 1.0
    pixels, memory = inputs()
    found, updated = module.train()(pixels, memory)
    torch.testing.assert_close(found, pixels)
    torch.testing.assert_close(updated, memory.relu())


def test_branches_are_drawn_by_themselves() -> None:
    module = block()
    module.drop_path.p = 0.5
    pixels, memory = (x.repeat(100, *[1] * (x.ndim - 1)) for x in inputs(1))
    found, updated = module.train()(pixels, memory)
    same = (found == pixels).flatten(1).all(1)
    untouched = torch.isclose(updated, memory.relu()).flatten(1).all(1)
    assert 25 < same.sum() < 75
    assert 0 < untouched.sum() < same.sum()  # both of the memory's branches are dropped in a quarter
    assert (same & ~untouched).any() and (~same & untouched).any()


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="6 key channels among 4 heads"):
        DualPathBlock(8, 8, key_channels=6, num_heads=4)
