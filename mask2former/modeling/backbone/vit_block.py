"""Blocks of a plain vision transformer. Parameters have timm's names, which published weights of most ViTs have."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.drop_path import DropPath

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the angles by which patches' queries and keys are rotated, [L, C / heads] each."""


class ViTAttention(nn.Module):
    """Multi-head self-attention with one packed projection (ViT, arXiv 2010.11929).

    Args:
        channels: C of the tokens.
        num_heads: attention heads; must divide ``channels``.
        key_bias: False: the key projection has no bias, as in DINOv3.
    """

    def __init__(self, channels: int, num_heads: int, *, key_bias: bool = True) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} attention heads.")
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=key_bias)
        if not key_bias:
            self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.proj = nn.Linear(channels, channels)
        self.key_bias = key_bias

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        attn_mask: Tensor | None = None,
        asking: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: tokens [B, N, C], of which the last L are patches.
            rotation: rotary positions of the L patches.
            attn_mask: bool, broadcastable to [B, heads, N, N]; False where a token must not look.
            asking: int64 [n], tokens that ask; None: all of them.

        Returns:
            [B, n, C].
        """
        bias = self.qkv.bias if self.key_bias else torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        if asking is None:
            q, k, v = (self._heads(part) for part in F.linear(x, self.qkv.weight, bias).chunk(3, dim=-1))
        else:
            weights, biases = (w.split([x.shape[-1], 2 * x.shape[-1]]) for w in (self.qkv.weight, bias))
            q = self._heads(F.linear(x[:, asking], weights[0], biases[0]))
            k, v = (self._heads(part) for part in F.linear(x, weights[1], biases[1]).chunk(2, dim=-1))
        if rotation is not None:
            q, k = _rotate(q, rotation), _rotate(k, rotation)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """Reshape [B, N, C] to [B, heads, N, C / heads]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with exact GELU between them; or, gated, ``silu(a) * b`` with a and b from the first one."""

    def __init__(self, channels: int, hidden: int, *, gated: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden * (2 if gated else 1))
        self.fc2 = nn.Linear(hidden, channels)
        self.gated = gated

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, N, C]."""
        x = self.fc1(x)
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            return self.fc2(F.silu(gate) * x)
        return self.fc2(F.gelu(x))


class LayerScale(nn.Module):
    """A factor for each channel (CaiT, arXiv 2103.17239)."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class ViTBlock(nn.Module):
    """``x += s1 attention(norm1(x))``, then ``x += s2 mlp(norm2(x))``.

    Args:
        channels: C of the tokens.
        num_heads: attention heads.
        hidden: channels of the feed-forward network.
        layer_scale: initial value of s1 and s2; 0: neither exists.
        gated: the feed-forward network is gated (SwiGLU).
        key_bias: see :class:`ViTAttention`.
        drop_path: stochastic depth of the branches named in ``drop_path_on``.
        drop_path_on: "both", or "mlp" alone.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        hidden: int,
        layer_scale: float = 0.0,
        gated: bool = False,
        key_bias: bool = True,
        drop_path: float = 0.0,
        drop_path_on: str = "both",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps)
        self.attn = ViTAttention(channels, num_heads, key_bias=key_bias)
        self.ls1 = LayerScale(channels, layer_scale) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(channels, eps)
        self.mlp = FeedForward(channels, hidden, gated=gated)
        self.ls2 = LayerScale(channels, layer_scale) if layer_scale else nn.Identity()
        self.drop_path1 = DropPath(drop_path if drop_path_on == "both" else 0.0)
        self.drop_path2 = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        attn_mask: Tensor | None = None,
        asking: Tensor | None = None,
    ) -> Tensor:
        """Transform x [B, N, C], with the arguments of :class:`ViTAttention`; only tokens that ask are left."""
        attended = self.attn(self.norm1(x), rotation, attn_mask, asking)
        x = (x if asking is None else x[:, asking]) + self.drop_path1(self.ls1(attended))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def rotation_of(grid: tuple[int, int], channels: int, *, base: float, scale: float, device: torch.device) -> Rotation:
    """Compute the rotation of a grid's patches (DINOv3, arXiv 2508.10104, section 3.2): float32.

    Args:
        grid: (h, w).
        channels: those of a head, divisible by 4: half of them turn with y, half with x.
        base: ratio of the highest to the lowest frequency.
        scale: factor on the coordinates, which go from -1 to 1.
        device: device of the result.
    """
    frequency = base ** -torch.arange(0, 1, 4 / channels, dtype=torch.float32, device=device)
    y, x = (
        ((torch.arange(side, dtype=torch.float32, device=device) + 0.5) / side * 2 - 1) * scale * 2 * math.pi
        for side in grid
    )
    angle = torch.cat(
        [
            (y[:, None] * frequency)[:, None].expand(-1, grid[1], -1),
            (x[:, None] * frequency)[None].expand(grid[0], -1, -1),
        ],
        dim=-1,
    ).flatten(0, 1)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the last L tokens of [B, heads, N, c], taking channel i with channel i + c / 2."""
    cosine, sine = (part.to(x.dtype) for part in rotation)
    others, patches = x.split([x.shape[2] - len(cosine), len(cosine)], dim=2)
    first, second = patches.chunk(2, dim=-1)
    return torch.cat([others, patches * cosine + torch.cat([-second, first], dim=-1) * sine], dim=2)
