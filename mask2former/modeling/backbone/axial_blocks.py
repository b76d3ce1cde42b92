"""Residual blocks with convolutions or axial attention, whose outputs are not activated, and sums of features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from mask2former.modeling.layers.axial_attention import AxialAttention2d
from mask2former.modeling.layers.conv_bn import resize_aligned
from mask2former.modeling.layers.conv_norm import ConvNorm

KINDS = ("basic", "bottleneck", "axial")


class AxialBlock(nn.Module):
    """``y = x' + branch(x')`` with ``x' = ReLU(x)``, or its 1x1 convolution where channels change.

    The branch is two 3x3 convolutions ("basic"); 1x1, 3x3 and 1x1 ("bottleneck"); or 1x1, axial attention with ReLU,
    and 1x1 ("axial").

    Args:
        in_channels, channels: of input and output.
        kind: of :data:`KINDS`.
        stride: of the first 3x3 convolution or the attention.
        key_expansion, value_expansion: depth of the attention's keys and values, relative to a quarter of ``channels``.
        num_heads: of the attention.
        drop_path: probability that an image skips the branch in training.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kind: str,
        *,
        stride: int = 1,
        key_expansion: int = 1,
        value_expansion: int = 2,
        num_heads: int = 8,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        base = channels // 4
        self.kind, self.stride = kind, stride
        if kind == "basic":
            self.conv1 = ConvNorm(in_channels, channels, kernel_size=3, stride=stride, relu=True)
            self.conv2 = ConvNorm(channels, channels, kernel_size=3, scale=0.0)
        elif kind == "bottleneck":
            self.conv1 = ConvNorm(in_channels, base, relu=True)
            self.conv2 = ConvNorm(base, base, kernel_size=3, stride=stride, relu=True)
            self.conv3 = ConvNorm(base, channels, scale=0.0)
        else:
            keys, values = key_expansion * base, value_expansion * base
            self.conv1 = ConvNorm(in_channels, values, relu=True)
            self.attention = AxialAttention2d(
                values, key_channels=keys, value_channels=values, num_heads=num_heads, stride=stride
            )
            self.conv3 = ConvNorm(values, channels, scale=0.0)
        self.shortcut = ConvNorm(in_channels, channels, stride=stride) if in_channels != channels else None
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        x = F.relu(x)
        branch = self.conv1(x)
        if self.kind == "axial":
            branch = self.conv3(F.relu(self.attention(branch)))
        else:
            branch = self.conv2(branch)
            branch = self.conv3(branch) if self.kind == "bottleneck" else branch
        kept = x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        return kept + self.drop_path(branch)


class Junction(nn.Module):
    """Sum of a feature of another stride, resized, and of earlier features of the wanted one.

    Where channels differ, ReLU and a 1x1 convolution come before resizing; towards a coarser stride the convolution
    takes every second row and column, and nothing is left to resize.

    Args:
        in_channels, out_channels: of the first feature, and of all others.
        down: the first feature is finer than the others.
    """

    def __init__(self, in_channels: int, out_channels: int, down: bool) -> None:
        super().__init__()
        stride = 2 if down else 1
        self.conv = ConvNorm(in_channels, out_channels, stride=stride) if in_channels != out_channels else None

    def forward(self, x: Tensor, others: Sequence[Tensor]) -> Tensor:
        """Add x [B, C, h, w] to others [B, C', H, W], of which there is at least one."""
        if self.conv is not None:
            x = self.conv(F.relu(x))
        x = resize_aligned(x, (others[0].shape[-2], others[0].shape[-1]))
        for other in others:
            x = x + other
        return x
