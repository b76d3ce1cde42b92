"""A convolution with batch normalisation and GELU, the brick of kMaX-DeepLab. Parameters have its published names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.batch_norm import BatchNorm, truncated_normal_


class ConvBN(nn.Module):
    """A convolution that keeps the size, then batch normalisation, then GELU; the last two where wanted.

    Args:
        in_channels, out_channels: channels.
        kernel_size, dilation: of the convolution, which is padded with zeros.
        depthwise: each channel by itself; ``out_channels`` are ``in_channels``.
        bias: of the convolution.
        norm: start of the normalisation's scale; None: no normalisation.
        gelu: GELU at the end.
        std: start of the weights, a cut normal distribution; None: sqrt(2 / in_channels) whatever the kernel's size, as
            published, and Xavier's uniform one for depthwise ones.
        lines: for [B, C, L] instead of [B, C, H, W].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        bias: bool = False,
        norm: float | None = 1.0,
        gelu: bool = False,
        std: float | None = None,
        lines: bool = False,
    ) -> None:
        super().__init__()
        kind = nn.Conv1d if lines else nn.Conv2d
        self.conv = kind(
            in_channels,
            out_channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=in_channels if depthwise else 1,
            bias=bias,
        )
        self.norm = None if norm is None else BatchNorm(out_channels, norm)
        self.gelu = gelu
        if depthwise:
            nn.init.xavier_uniform_(self.conv.weight)
        else:
            truncated_normal_(self.conv.weight, (2 / in_channels) ** 0.5 if std is None else std)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] or [B, C, L]."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return F.gelu(x) if self.gelu else x


def resize_aligned(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize x [B, C, H, W] bilinearly with aligned corners to [B, C, *size]."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
