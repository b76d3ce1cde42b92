"""The auxiliary semantic branches of kMaX-DeepLab, which run in training alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from mask2former.modeling.layers.conv_bn import ConvBN, resize_aligned

_CHANNELS = 256
_RATES = (6, 12, 18)
_LOW_LEVEL = {"res3": 64, "res2": 32}  # channels of the finer features that are joined
_DROPOUT = 0.1


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLab v3, arXiv 1706.05587): 1x1, three dilated 3x3, and the mean.

    Args:
        in_channels: C.
        brick: kind of convolutions.
    """

    def __init__(self, in_channels: int, brick: type[ConvBN] = ConvBN) -> None:
        super().__init__()
        self._aspp_conv0 = brick(in_channels, _CHANNELS, active=True)
        self._aspp_conv1, self._aspp_conv2, self._aspp_conv3 = (
            brick(in_channels, _CHANNELS, kernel_size=3, dilation=rate, active=True) for rate in _RATES
        )
        self._aspp_pool = brick(in_channels, _CHANNELS, active=True)
        self._proj_conv_bn_act = brick(5 * _CHANNELS, _CHANNELS, active=True)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] -> [B, 256, H, W]."""
        parts = [conv(x) for conv in (self._aspp_conv0, self._aspp_conv1, self._aspp_conv2, self._aspp_conv3)]
        pooled = self._aspp_pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.dropout(self._proj_conv_bn_act(torch.cat([*parts, pooled], 1)))


class SemanticDecoder(nn.Module):
    """Semantic logits at stride 4 from "res5", "res3" and "res2", K + 1 of them; the last class has no pixels.

    Args:
        input_shape: channels of these features.
        num_classes: K.
        brick: kind of convolutions.
    """

    def __init__(self, input_shape: Mapping[str, ShapeSpec], num_classes: int, brick: type[ConvBN] = ConvBN) -> None:
        super().__init__()
        if missing := sorted({"res5", "res3", "res2"} - set(input_shape)):
            raise ValueError(
                f"MODEL.KMAX_DEEPLAB.USE_AUX_SEMANTIC_DECODER needs the backbone's {', '.join(missing)}; it gives "
                f"{sorted(input_shape)}. Set its OUT_FEATURES, or the key to False."
            )
        channels = {name: shape.channels or 0 for name, shape in input_shape.items()}
        self._aspp = ASPP(channels["res5"], brick)
        self._low_level_projection_os8 = brick(channels["res3"], _LOW_LEVEL["res3"], active=True)
        joined = _CHANNELS + _LOW_LEVEL["res3"]
        self._low_level_fusion_os8_conv0_bn_act = brick(joined, joined, kernel_size=5, depthwise=True, active=True)
        self._low_level_fusion_os8_conv1_bn_act = brick(joined, _CHANNELS, active=True)
        self._low_level_projection_os4 = brick(channels["res2"], _LOW_LEVEL["res2"], active=True)
        joined = _CHANNELS + _LOW_LEVEL["res2"]
        self._low_level_fusion_os4_conv0_bn_act = brick(joined, joined, kernel_size=5, depthwise=True, active=True)
        self._low_level_fusion_os4_conv1_bn_act = brick(joined, _CHANNELS, active=True)
        self.conv_block_0 = brick(_CHANNELS, _CHANNELS, kernel_size=5, depthwise=True, active=True)
        self.conv_block_1 = brick(_CHANNELS, _CHANNELS, active=True)
        self.final_conv = brick(_CHANNELS, num_classes + 1, bias=True, norm=None, std=0.01)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits [B, K + 1, h, w] from the backbone's features."""
        x = _join(self._aspp(features["res5"]), self._low_level_projection_os8(features["res3"]))
        x = self._low_level_fusion_os8_conv1_bn_act(self._low_level_fusion_os8_conv0_bn_act(x))
        x = _join(x, self._low_level_projection_os4(features["res2"]))
        x = self._low_level_fusion_os4_conv1_bn_act(self._low_level_fusion_os4_conv0_bn_act(x))
        return self.final_conv(self.conv_block_1(self.conv_block_0(x)))


def _join(coarse: Tensor, fine: Tensor) -> Tensor:
    return torch.cat([resize_aligned(coarse, (fine.shape[-2], fine.shape[-1])), fine], 1)


class CoarseSemanticHead(nn.Sequential):
    """Semantic logits of the K classes from "res5" alone, at its stride."""

    def __init__(self, input_shape: Mapping[str, ShapeSpec], num_classes: int) -> None:
        channels = input_shape["res5"].channels or 0
        super().__init__(
            ConvBN(channels, channels, kernel_size=5, depthwise=True, active=True),
            ConvBN(channels, _CHANNELS, active=True),
            ConvBN(_CHANNELS, num_classes, bias=True, norm=None, std=0.01),
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits [B, K, h, w] from the backbone's features."""
        return super().forward(features["res5"])
