"""Residual blocks of MaX-DeepLab's networks: basic, bottleneck, and axial attention in place of a 3x3 convolution."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.axial_attention import AxialAttention2d
from mask2former.modeling.layers.conv_bn import ReLUConvBN
from mask2former.modeling.layers.drop_path import DropPath

Kind = Literal["basic", "bottleneck", "axial"]
KINDS = ("basic", "bottleneck", "axial")
_EXPANSION = 4  # output channels of bottleneck and axial blocks, relative to their width


class ResidualBlock(nn.Module):
    """``y = x' + branch(x')`` with ``x' = ReLU(x)``, or its projection where channels change: no activation at the end.

    The branch is two 3x3 convolutions (basic), 1x1, 3x3, 1x1 (bottleneck), or 1x1, axial attention, 1x1 (axial). With
    stride 2 the first 3x3 convolution or the attention strides, and the shortcut does. The branch's last norm has the
    scale 0 at the beginning. Parameters have the published names.

    Args:
        in_channels, out_channels: C and C'; of bottleneck and axial blocks the latter is four times their width F.
        kind: "basic", "bottleneck" or "axial".
        stride: 1 or 2.
        key_expansion, value_expansion: key and value channels of axial attention, relative to F; its input has as many
            channels as its values.
        num_heads: of axial attention.
        drop_path: probability that an image skips the branch in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kind: Kind,
        stride: int = 1,
        key_expansion: int = 1,
        value_expansion: int = 2,
        num_heads: int = 8,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        width = out_channels // _EXPANSION
        if kind == "basic":
            self.conv1_bn_act = ReLUConvBN(in_channels, out_channels, kernel_size=3, stride=stride, active=True)
            self.conv2_bn = ReLUConvBN(out_channels, out_channels, kernel_size=3, norm=0.0)
        elif kind == "bottleneck":
            self.conv1_bn_act = ReLUConvBN(in_channels, width, active=True)
            self.conv2_bn_act = ReLUConvBN(width, width, kernel_size=3, stride=stride, active=True)
            self.conv3_bn = ReLUConvBN(width, out_channels, norm=0.0)
        else:
            inner = value_expansion * width
            self.conv1_bn_act = ReLUConvBN(in_channels, inner, active=True)
            self.attention = AxialAttention2d(
                inner, key_channels=key_expansion * width, value_channels=inner, num_heads=num_heads, stride=stride
            )
            self.conv3_bn = ReLUConvBN(inner, out_channels, norm=0.0)
        self.shortcut = ReLUConvBN(in_channels, out_channels, stride=stride) if in_channels != out_channels else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        x = F.relu(x)
        branch = self.conv1_bn_act(x)
        if self.kind == "basic":
            branch = self.conv2_bn(branch)
        else:
            branch = self.conv2_bn_act(branch) if self.kind == "bottleneck" else F.relu(self.attention(branch))
            branch = self.conv3_bn(branch)
        kept = x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        return kept + self.drop_path(branch)
