"""The dual-path block, against loops over heads, slots and pixels written from the formulas in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from mask2former.modeling.layers.conv_norm import ConvNorm
from mask2former.modeling.layers.dual_path import ATTENTIONS, DualPathBlock

B, C, CM, N, H, W, HEADS = 2, 6, 5, 3, 2, 4, 2
KEY, VALUE = 4, 6


def block(attentions: tuple[str, ...], drop_path: float = 0.0) -> DualPathBlock:
    torch.manual_seed(0)
    made = DualPathBlock(
        C,
        CM,
        bottleneck=7,
        key_channels=KEY,
        value_channels=VALUE,
        feed_forward=9,
        attentions=attentions,
        drop_path=drop_path,
        num_heads=HEADS,
    ).double()
    for name, parameter in made.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, 0.3 if name.endswith("bias") else 1.0, 0.5)
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return made


def normed(x: np.ndarray, norm: nn.Module, training: bool, axis: int) -> np.ndarray:
    """Normalise each index of ``axis`` over all others."""
    result = np.empty_like(x)
    for c in range(x.shape[axis]):
        at = tuple(c if a == axis else slice(None) for a in range(x.ndim))
        mean, var = (
            (x[at].mean(), x[at].var()) if training else (norm.running_mean[c].item(), norm.running_var[c].item())
        )
        result[at] = (x[at] - mean) / math.sqrt(var + 1e-3) * norm.weight[c].item() + norm.bias[c].item()
    return result


def mapped(x: np.ndarray, layer: ConvNorm, training: bool) -> np.ndarray:
    """Apply a 1x1 map with its normalisation to x [B, L, C]."""
    x = normed(x @ layer.conv.weight.detach().numpy()[:, :, 0].T, layer.norm, training, 2)
    return np.maximum(x, 0) if layer.relu else x


def attended(layer: nn.Module, q: np.ndarray, k: np.ndarray, v: np.ndarray, training: bool) -> np.ndarray:
    logits = np.zeros((B, HEADS, q.shape[1], k.shape[1]))
    result = np.zeros((B, q.shape[1], VALUE))
    dk, dv = KEY // HEADS, VALUE // HEADS
    for b, h, i, j in itertools.product(range(B), range(HEADS), range(q.shape[1]), range(k.shape[1])):
        logits[b, h, i, j] = sum(q[b, i, h * dk + c] * k[b, j, h * dk + c] for c in range(dk))
    logits = normed(logits, layer.norm_similarity, training, 1)
    for b, h, i in itertools.product(range(B), range(HEADS), range(q.shape[1])):
        weights = np.exp(logits[b, h, i]) / np.exp(logits[b, h, i]).sum()
        for c in range(dv):
            result[b, i, h * dv + c] = sum(weights[j] * v[b, j, h * dv + c] for j in range(k.shape[1]))
    return np.maximum(normed(result, layer.norm_value, training, 2), 0)


def oracle(
    made: DualPathBlock, p: np.ndarray, m: np.ndarray, attentions: tuple[str, ...], training: bool
) -> tuple[np.ndarray, np.ndarray]:
    m2p, m2m, p2m = (name in attentions for name in ("M2P", "M2M", "P2M"))
    old, keys, values = m, [], []
    if m2p or m2m or p2m:
        of_memory = mapped(mapped(old, made.memory_conv1, training), made.memory_qkv, training)
    if m2p or p2m:
        of_pixels = mapped(mapped(np.maximum(p, 0), made.pixel_conv1, training), made.pixel_qkv, training)
    if m2p:
        keys.append(of_pixels[:, :, -KEY - VALUE : -VALUE]), values.append(of_pixels[:, :, -VALUE:])
    if m2m:
        keys.append(of_memory[:, :, -KEY - VALUE : -VALUE]), values.append(of_memory[:, :, -VALUE:])
    if keys:
        k, v = np.concatenate(keys, 1), np.concatenate(values, 1)
        o = attended(made.memory_attention, of_memory[:, :, :KEY], k, v, training)
        m = np.maximum(m + mapped(o, made.memory_conv3, training), 0)
    m = np.maximum(m + mapped(mapped(m, made.memory_ffn1, training), made.memory_ffn2, training), 0)
    if p2m:
        k, v = of_memory[:, :, -KEY - VALUE : -VALUE], of_memory[:, :, -VALUE:]
        p = p + mapped(
            attended(made.pixel_attention, of_pixels[:, :, :KEY], k, v, training), made.pixel_conv3, training
        )
    return p, m


SUBSETS = [subset for n in range(4) for subset in itertools.combinations(ATTENTIONS[1:], n)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attentions", SUBSETS, ids="+".join)
def test_block_is_the_formulas(attentions: tuple[str, ...], training: bool) -> None:
    made = block(attentions).train(training)
    pixels, memory = torch.randn(B, C, H, W, dtype=torch.float64), torch.randn(B, CM, N, dtype=torch.float64)
    flat = pixels.flatten(2).transpose(1, 2).numpy()
    expected = oracle(made, flat, memory.transpose(1, 2).numpy(), attentions, training)
    with torch.no_grad():
        p, m = made(pixels, memory)
    np.testing.assert_allclose(p.flatten(2).transpose(1, 2), expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(m.transpose(1, 2), expected[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("attentions", SUBSETS, ids="+".join)
def test_what_is_switched_off_has_no_parameters(attentions: tuple[str, ...]) -> None:
    made = block(attentions)
    p, m = made(torch.randn(B, C, H, W).double(), torch.randn(B, CM, N).double())
    (p.square().sum() + m.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_a_new_block_is_the_identity() -> None:
    made = DualPathBlock(8, 6, bottleneck=8, key_channels=8, value_channels=8, feed_forward=8)
    pixels, memory = torch.randn(2, 8, 3, 3), torch.rand(2, 6, 4)
    torch.testing.assert_close(made(pixels, memory), (pixels, memory))


def test_an_image_skips_each_branch_by_itself() -> None:
    made = block(ATTENTIONS, drop_path=0.5)
    made.eval().drop_path.train()
    pixels, memory = torch.randn(1, C, H, W).double().expand(64, -1, -1, -1), torch.rand(1, CM, N).double()
    with torch.no_grad():
        p, m = made(pixels, memory.expand(64, -1, -1))
    of_pixels = {tuple(x.flatten().tolist()) for x in p}
    of_memory = {tuple(x.flatten().tolist()) for x in m}
    assert len(of_pixels) == 2 and len(of_memory) == 4
    assert len({(tuple(x.flatten().tolist()), tuple(y.flatten().tolist())) for x, y in zip(p, m, strict=True)}) == 8


def test_heads_have_to_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="cannot divide 6 key and 8 value channels among 8 heads"):
        DualPathBlock(8, 6, bottleneck=8, key_channels=6, value_channels=8, feed_forward=8)
