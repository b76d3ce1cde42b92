"""The dual-path block of MaX-DeepLab (arXiv 2012.00759, section 3.2): pixels and a memory attend to each other."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from mask2former.modeling.layers.batch_norm import BatchNorm
from mask2former.modeling.layers.conv_norm import ConvNorm

ATTENTIONS = ("P2P", "M2P", "M2M", "P2M")
"""Who asks whom: P2P is the axial attention of the residual block before a dual-path block, not a part of it."""


class NormedAttention(nn.Module):
    """Attention whose logits are normalised for each head, and its result for each channel; then ReLU."""

    def __init__(self, value_channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_similarity = BatchNorm(num_heads)
        self.norm_value = BatchNorm(value_channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend; query [B, C, L], key [B, C, S], value [B, C', S] -> [B, C', L]."""
        query, key, value = (part.unflatten(1, (self.num_heads, -1)) for part in (query, key, value))
        if self.training:
            logits = self.norm_similarity(query.transpose(2, 3) @ key)
        else:  # the shift is one number for all keys of a head, which softmax does not see
            scale = self.norm_similarity.folded()[0].to(query.dtype)
            logits = (query * scale[:, None, None]).transpose(2, 3) @ key
        attended = value @ logits.softmax(-1).transpose(2, 3)
        return F.relu(self.norm_value(attended.flatten(1, 2)))


class DualPathBlock(nn.Module):
    """Let the memory attend to pixels and to itself, and pixels to the memory as it was; then transform the memory.

    ``m <- ReLU(m + A([p; m]))``, ``m <- ReLU(m + feed-forward(m))``, ``p <- p + A'(m before)``. The scale of each
    branch's last normalisation starts at 0, so that the block starts as the identity.

    Args:
        pixel_channels, memory_channels: of both paths.
        bottleneck, key_channels, value_channels: of the attentions, all heads together.
        feed_forward: hidden channels.
        attentions: those of M2P, M2M and P2M that are wanted; other names are not looked at.
        drop_path: probability that an image skips a branch in training, drawn for each of the three.
        num_heads: must divide key and value channels.
    """

    def __init__(
        self,
        pixel_channels: int,
        memory_channels: int,
        *,
        bottleneck: int,
        key_channels: int,
        value_channels: int,
        feed_forward: int,
        attentions: Collection[str] = ATTENTIONS,
        drop_path: float = 0.0,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        if key_channels % num_heads or value_channels % num_heads:
            raise ValueError(
                f"A dual-path block cannot divide {key_channels} key and {value_channels} value channels among "
                f"{num_heads} heads; choose multiples of {num_heads}."
            )
        self.m2p, self.m2m, self.p2m = ("M2P" in attentions, "M2M" in attentions, "P2M" in attentions)
        asks = self.m2p or self.m2m
        of_key, std = (key_channels, value_channels), bottleneck**-0.5
        self.memory_parts = ((key_channels,) if asks else ()) + (of_key if self.m2m or self.p2m else ())
        self.pixel_parts = ((key_channels,) if self.p2m else ()) + (of_key if self.m2p else ())
        if self.memory_parts:
            self.memory_conv1 = ConvNorm(memory_channels, bottleneck, relu=True, lines=True)
            self.memory_qkv = ConvNorm(bottleneck, sum(self.memory_parts), std=std, lines=True)
        if self.pixel_parts:
            self.pixel_conv1 = ConvNorm(pixel_channels, bottleneck, relu=True, lines=True)
            self.pixel_qkv = ConvNorm(bottleneck, sum(self.pixel_parts), std=std, lines=True)
        if asks:
            self.memory_attention = NormedAttention(value_channels, num_heads)
            self.memory_conv3 = ConvNorm(value_channels, memory_channels, scale=0.0, lines=True)
        if self.p2m:
            self.pixel_attention = NormedAttention(value_channels, num_heads)
            self.pixel_conv3 = ConvNorm(value_channels, pixel_channels, scale=0.0, lines=True)
        self.memory_ffn1 = ConvNorm(memory_channels, feed_forward, relu=True, lines=True)
        self.memory_ffn2 = ConvNorm(feed_forward, memory_channels, scale=0.0, lines=True)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, pixels: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Update pixels [B, C, H, W], which are not activated, and memory [B, C', N], which is."""
        of_memory = self._parts(memory, "memory") if self.memory_parts else ()
        of_pixels = self._parts(F.relu(pixels).flatten(2), "pixel") if self.pixel_parts else ()
        if self.m2p or self.m2m:
            sources = ([of_pixels[-2:]] if self.m2p else []) + ([of_memory[-2:]] if self.m2m else [])
            key, value = (torch.cat(both, 2) for both in zip(*sources, strict=True))  # pixels first
            attended = self.memory_conv3(self.memory_attention(of_memory[0], key, value))
            memory = F.relu(memory + self.drop_path(attended))
        memory = F.relu(memory + self.drop_path(self.memory_ffn2(self.memory_ffn1(memory))))
        if self.p2m:
            attended = self.pixel_conv3(self.pixel_attention(of_pixels[0], *of_memory[-2:]))
            pixels = pixels + self.drop_path(attended).unflatten(2, pixels.shape[-2:])
        return pixels, memory

    def _parts(self, x: Tensor, path: str) -> tuple[Tensor, ...]:
        """Return those of query, key and value that are wanted of x [B, C, L]."""
        if path == "memory":
            return self.memory_qkv(self.memory_conv1(x)).split(self.memory_parts, 1)
        return self.pixel_qkv(self.pixel_conv1(x)).split(self.pixel_parts, 1)
