"""The auxiliary semantic head of MaX-DeepLab-L, which runs in training alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mask2former.modeling.layers.conv_bn import ReLUConvBN
from mask2former.modeling.max_deeplab.backbone import SEMANTIC

_CHANNELS = 256


class SemanticHead(nn.Module):
    """Semantic logits, K + 1 of them, from the decoder's feature of this name; the last class has no pixels.

    Args:
        in_channels: C.
        num_classes: K.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv_block_0 = ReLUConvBN(in_channels, in_channels, kernel_size=5, depthwise=True, active=True)
        self.conv_block_1 = ReLUConvBN(in_channels, _CHANNELS, active=True)
        self.final_conv = ReLUConvBN(_CHANNELS, num_classes + 1, bias=True, norm=None, std=0.01)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits [B, K + 1, h, w] from the backbone's features."""
        return self.final_conv(self.conv_block_1(self.conv_block_0(features[SEMANTIC])))
