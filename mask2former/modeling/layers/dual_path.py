"""The dual-path block of MaX-DeepLab (arXiv 2012.00759, section 3.2): pixels and a memory attend to each other."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.conv_bn import ReLUConvBN
from mask2former.modeling.layers.drop_path import DropPath
from mask2former.modeling.layers.normed_attention import NormedAttention

ATTENTIONS = ("P2P", "M2P", "M2M", "P2M")
"""The four attentions: pixels to pixels (the residual block before), memory to pixels, memory to memory, pixels to
memory. "X2Y": X has the queries, Y the keys and values."""


class DualPathBlock(nn.Module):
    """Move the memory by its attention to pixels and to itself, and pixels by theirs to the memory as it was.

    Without "M2P" or "M2M" the memory's keys are those of the other alone, and without both the memory passes the
    feed-forward network only. Without "P2M" pixels stay as they are. Parameters have the published names.

    Args:
        pixel_channels: C_p.
        memory_channels: C_m.
        key_channels: of queries and keys of all heads; bottleneck and values have twice as many.
        feed_forward: hidden channels.
        num_heads: must divide ``key_channels``.
        drop_path: probability that an image skips a branch in training, drawn for each of the three.
        attentions: names out of :data:`ATTENTIONS`; "P2P" is not this block's.

    Raises:
        ValueError: key channels that cannot be divided among the heads.
    """

    def __init__(
        self,
        pixel_channels: int,
        memory_channels: int,
        *,
        key_channels: int,
        feed_forward: int = 2048,
        num_heads: int = 8,
        drop_path: float = 0.0,
        attentions: Collection[str] = ATTENTIONS,
    ) -> None:
        super().__init__()
        if key_channels % num_heads:
            raise ValueError(
                f"A dual-path block cannot divide {key_channels} key channels among {num_heads} heads; choose a "
                f"multiple of {num_heads}."
            )
        self.to_pixels, self.to_memory, self.from_pixels = (name in attentions for name in ("M2P", "M2M", "P2M"))
        inner, key = 2 * key_channels, key_channels
        # Channels of query, key and value; a part that no attention reads is not there.
        reads_memory = self.to_memory or self.from_pixels
        self.memory_parts = [key * (self.to_pixels or self.to_memory), key * reads_memory, inner * reads_memory]
        self.pixel_parts = [key * self.from_pixels, key * self.to_pixels, inner * self.to_pixels]
        std = inner**-0.5
        if any(self.memory_parts):
            self.memory_conv1_bn_act = ReLUConvBN(memory_channels, inner, active=True, lines=True)
            self.memory_qkv_conv_bn = ReLUConvBN(inner, sum(self.memory_parts), std=std, lines=True)
        if any(self.pixel_parts):
            self.pixel_conv1_bn_act = ReLUConvBN(pixel_channels, inner, active=True, lines=True)
            self.pixel_qkv_conv_bn = ReLUConvBN(inner, sum(self.pixel_parts), std=std, lines=True)
        if self.to_pixels or self.to_memory:
            self.memory_attention = NormedAttention(inner, num_heads, F.relu)
            self.memory_conv3_bn = ReLUConvBN(inner, memory_channels, norm=0.0, lines=True)
        if self.from_pixels:
            self.pixel_attention = NormedAttention(inner, num_heads, F.relu)
            self.pixel_conv3_bn = ReLUConvBN(inner, pixel_channels, norm=0.0, lines=True)
        self.memory_ffn_conv1_bn_act = ReLUConvBN(memory_channels, feed_forward, active=True, lines=True)
        self.memory_ffn_conv2_bn = ReLUConvBN(feed_forward, memory_channels, norm=0.0, lines=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Update both.

        Args:
            pixels: [B, C_p, H, W], before their activation.
            memory: [B, C_m, N].

        Returns:
            Both, of the same shapes; the memory is activated, pixels are not.
        """
        flat = pixels.flatten(2)
        query, key, value = self._memory_parts(memory)
        pixel_query, pixel_key, pixel_value = self._pixel_parts(flat)
        if self.to_pixels or self.to_memory:
            keys, values = [], []
            if self.to_pixels:
                keys, values = [pixel_key], [pixel_value]
            if self.to_memory:
                keys, values = [*keys, key], [*values, value]
            attended = self.memory_attention(query, torch.cat(keys, 2), torch.cat(values, 2))
            memory = F.relu(memory + self.drop_path(self.memory_conv3_bn(attended)))
        hidden = self.memory_ffn_conv1_bn_act(memory)
        memory = F.relu(memory + self.drop_path(self.memory_ffn_conv2_bn(hidden)))
        if self.from_pixels:
            attended = self.pixel_conv3_bn(self.pixel_attention(pixel_query, key, value))
            pixels = pixels + self.drop_path(attended).view_as(pixels)
        return pixels, memory

    def _memory_parts(self, memory: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values [B, c, N] of the memory; parts that no attention reads have no channels."""
        if not any(self.memory_parts):
            return memory, memory, memory
        return self.memory_qkv_conv_bn(self.memory_conv1_bn_act(memory)).split(self.memory_parts, 1)

    def _pixel_parts(self, flat: Tensor) -> tuple[Tensor, ...]:
        if not any(self.pixel_parts):
            return flat, flat, flat
        return self.pixel_qkv_conv_bn(self.pixel_conv1_bn_act(F.relu(flat))).split(self.pixel_parts, 1)
