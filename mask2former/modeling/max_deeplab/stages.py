"""Parts of MaX-DeepLab's network of pixels and memory: stages with dual-path blocks, and junctions between stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.axial_block import ResidualBlock
from mask2former.modeling.layers.conv_bn import ReLUConvBN, resize_aligned
from mask2former.modeling.layers.dual_path import DualPathBlock


class DualPathStage(nn.Module):
    """Residual blocks, each with a dual-path block after it or none. Names are the published ones.

    Args:
        blocks: residual blocks.
        transformers: as many dual-path blocks, or none at all.
    """

    def __init__(self, blocks: Sequence[ResidualBlock], transformers: Sequence[DualPathBlock] = ()) -> None:
        super().__init__()
        self.depth, self.dual = len(blocks), bool(transformers)
        for index, block in enumerate(blocks, 1):
            self.add_module(f"block{index}", block)
        for index, transformer in enumerate(transformers, 1):
            self.add_module(f"block{index}_transformer", transformer)

    def forward(self, pixels: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Transform pixels [B, C, H, W], before their activation, and update the memory [B, C_m, N]."""
        for index in range(1, self.depth + 1):
            pixels = cast(nn.Module, getattr(self, f"block{index}"))(pixels)
            if self.dual:
                pixels, memory = cast(nn.Module, getattr(self, f"block{index}_transformer"))(pixels, memory)
        return pixels, memory


class Junction(nn.Module):
    """Sum of the current feature, brought to another stride, and features of that stride; without activation.

    On the way down its 1x1 convolution has stride 2; on the way up its result is resized.

    Args:
        in_channels, out_channels: of the current feature, and of the sum.
        down: from a finer stride to one of twice the size.
    """

    def __init__(self, in_channels: int, out_channels: int, *, down: bool) -> None:
        super().__init__()
        name = "strided_conv_bn1" if down else "resized_conv_bn1"  # published names
        self.add_module(name, ReLUConvBN(in_channels, out_channels, stride=2 if down else 1))
        self.conv_bn = name

    def forward(self, current: Tensor, others: Sequence[Tensor]) -> Tensor:
        """Add up; current [B, C, h, w], others [B, C', H, W] each -> [B, C', H, W]."""
        projected = self.get_submodule(self.conv_bn)(F.relu(current))
        total = resize_aligned(projected, (others[0].shape[-2], others[0].shape[-1]))
        for other in others:
            total = total + other
        return total
