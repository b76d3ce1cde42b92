"""A convolution with batch normalisation and ReLU, the brick of MaX-DeepLab."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.batch_norm import BatchNorm, truncated_normal_

_DEVIATION_OF_CUT = 0.87962566103423978  # of a standard normal number cut at two


class ConvNorm(nn.Module):
    """A convolution without bias, then batch normalisation, then ReLU where wanted.

    A strided 3x3 convolution is padded by one on all sides, so n cells become (n + 1) // 2.

    Args:
        in_channels, out_channels: channels.
        kernel_size, stride, dilation: of the convolution, which is padded with zeros.
        depthwise: each channel by itself; ``out_channels`` are ``in_channels``.
        relu: ReLU at the end.
        scale: start of the normalisation's scale.
        std: start of the weights, a cut normal distribution; None: He's, and Glorot's uniform one if depthwise.
        lines: for [B, C, L] instead of [B, C, H, W].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        relu: bool = False,
        scale: float = 1.0,
        std: float | None = None,
        lines: bool = False,
    ) -> None:
        super().__init__()
        kind = nn.Conv1d if lines else nn.Conv2d
        self.conv = kind(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation * (kernel_size // 2),
            dilation,
            groups=in_channels if depthwise else 1,
            bias=False,
        )
        self.norm = BatchNorm(out_channels, scale)
        self.relu = relu
        if depthwise:
            nn.init.xavier_uniform_(self.conv.weight)
        else:
            inputs = self.conv.weight[0].numel()
            truncated_normal_(self.conv.weight, (2 / inputs) ** 0.5 / _DEVIATION_OF_CUT if std is None else std)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] or [B, C, L]."""
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class SeparableConv(nn.Module):
    """A depthwise 5x5 convolution, then a 1x1 one, each with batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, kernel_size=5, depthwise=True, relu=True)
        self.pointwise = ConvNorm(in_channels, out_channels, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W]."""
        return self.pointwise(self.depthwise(x))
