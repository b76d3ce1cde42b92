"""Slow and obvious versions of what layers compute, which share no code with them. They run in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def randomise(module: nn.Module, std: float = 0.3) -> nn.Module:
    """Draw every parameter, in float64, so that all of them matter: biases, norms and embeddings too."""
    module.double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def position(channels: int, height: int, width: int, frames: int = 1, *, time: bool = False) -> Tensor:
    """Encode pixels by sines and cosines, number by number: [C, T, H, W] (DETR, arXiv 2005.12872, appendix A.4)."""

    def encode(place: int, length: int, channel: int, count: int) -> float:
        angle = (place + 1) / (length + 1e-6) * 2 * math.pi / 10000 ** (2 * (channel // 2) / count)
        return math.cos(angle) if channel % 2 else math.sin(angle)

    result, half = torch.zeros(channels, frames, height, width, dtype=torch.float64), channels // 2
    for c in range(channels):
        for t in range(frames):
            for y in range(height):
                for x in range(width):
                    value = encode(y, height, c, half) if c < half else encode(x, width, c - half, half)
                    result[c, t, y, x] = value + (encode(t, frames, c, channels) if time else 0.0)
    return result


def attend(layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None) -> Tensor:
    """Attend as ``torch.nn.MultiheadAttention`` with the same parameters; query [Q, C], key and value [S, C].

    Args:
        blocked: bool [Q, S], True where a query must not look.
    """
    theirs = nn.MultiheadAttention(query.shape[-1], layer.num_heads, dtype=query.dtype)
    theirs.load_state_dict(layer.state_dict())
    return theirs(query, key, value, attn_mask=blocked, need_weights=False)[0]


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalise the last axis; as it is where ``norm`` has no parameters."""
    if isinstance(norm, nn.Identity):
        return x
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def residual(block: nn.Module, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return x + function(normalise(block.norm, x)) if block.pre_norm else normalise(block.norm, x + function(x))


def self_attend(block: nn.Module, x: Tensor, place: Tensor) -> Tensor:
    return residual(block, x, lambda x: attend(block.attention, x + place, x + place, x))


def cross_attend(
    block: nn.Module, x: Tensor, place: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None
) -> Tensor:
    return residual(block, x, lambda x: attend(block.attention, x + place, key, value, blocked))


def feed_forward(block: nn.Module, x: Tensor) -> Tensor:
    one, two = block.linear1, block.linear2
    return residual(block, x, lambda x: (x @ one.weight.T + one.bias).clamp(min=0) @ two.weight.T + two.bias)


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    return x @ layer.weight.flatten(1).T + layer.bias


def mlp(stack: nn.Module, x: Tensor) -> Tensor:
    for index, layer in enumerate(stack.layers):
        x = linear(layer, x if index == 0 else x.clamp(min=0))
    return x


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to pixels [S, C]; none where ``layer`` has no parameters."""
    return x if isinstance(layer, nn.Identity) else linear(layer, x)


def deformable(
    layer: nn.Module, query: Tensor, pixels: Tensor, references: Tensor, sizes: Sequence[tuple[int, int]]
) -> Tensor:
    """Attend sample by sample (Deformable DETR, arXiv 2010.04159, equation 3); query [Q, C], pixels [S, C].

    Args:
        references: [Q, 2] (x, y) in [0, 1].
        sizes: (H, W) of each level of the pixels.
    """
    heads, levels, points = layer.shape
    values = linear(layer.value_proj, pixels).unflatten(-1, (heads, -1))
    offsets = linear(layer.sampling_offsets, query).view(len(query), heads, levels, points, 2)
    weights = linear(layer.attention_weights, query).view(len(query), heads, -1).softmax(-1)
    result = torch.zeros(len(query), *values.shape[1:], dtype=query.dtype)
    for q in range(len(query)):
        for head in range(heads):
            start = 0
            for level, (height, width) in enumerate(sizes):
                for point in range(points):
                    dx, dy = offsets[q, head, level, point].tolist()
                    x, y = references[q, 0].item() * width + dx - 0.5, references[q, 1].item() * height + dy - 0.5
                    weight = weights[q, head, level * points + point]
                    for row in (math.floor(y), math.floor(y) + 1):
                        for column in (math.floor(x), math.floor(x) + 1):
                            if 0 <= row < height and 0 <= column < width:
                                share = (1 - abs(y - row)) * (1 - abs(x - column))
                                result[q, head] += weight * share * values[start + row * width + column, head]
                start += height * width
    return linear(layer.output_proj, result.flatten(1))


def convolve(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply Detectron2's ``Conv2d``: a 3x3 or 1x1 convolution, then group normalisation and ReLU where it has them."""
    x = F.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)
    if layer.norm is not None:
        x = F.group_norm(x, layer.norm.num_groups, layer.norm.weight, layer.norm.bias)
    return x if layer.activation is None else x.clamp(min=0)
