"""The pixel decoder of MaskFormer: a feature pyramid network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fvcore.nn.weight_init as weight_init
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.convolution import pyramid_conv
from mask2former.modeling.pixel_decoder.output import PixelDecoderOutput


def pyramid_from_config(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """Return the arguments that every pixel decoder's constructor takes."""
    head = cfg.MODEL.SEM_SEG_HEAD
    return {
        "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
        "conv_dim": head.CONVS_DIM,
        "mask_dim": head.MASK_DIM,
        "norm": head.NORM,
    }


@SEM_SEG_HEADS_REGISTRY.register()
class BasePixelDecoder(nn.Module):
    """Feature pyramid (MaskFormer, arXiv 2107.06278, section 4.1, "Pixel decoder"; FPN, arXiv 1612.03144).

    Args:
        input_shape: channels and stride of the backbone features, which are all merged top-down.
        conv_dim: C of the pyramid.
        mask_dim: channels of the mask features.
        norm: normalisation of the convolutions (Detectron2's names).
    """

    @configurable
    def __init__(self, input_shape: Mapping[str, ShapeSpec], *, conv_dim: int, mask_dim: int, norm: str) -> None:
        super().__init__()
        self.features = sorted(input_shape, key=lambda name: -input_shape[name].stride)
        channels = [input_shape[name].channels for name in self.features]
        channels[0] = self._coarsest_channels(channels[0], conv_dim)
        self.lateral_convs = nn.ModuleList(pyramid_conv(c, conv_dim, norm, kernel_size=1) for c in channels[1:])
        self.output_convs = nn.ModuleList(
            pyramid_conv(c, conv_dim, norm, kernel_size=3, relu=True)
            for c in (channels[0], *[conv_dim] * (len(channels) - 1))
        )
        self.mask_features = Conv2d(conv_dim, mask_dim, kernel_size=3, padding=1)
        weight_init.c2_xavier_fill(self.mask_features)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return pyramid_from_config(cfg, input_shape)

    def forward(self, features: Mapping[str, Tensor]) -> PixelDecoderOutput:
        """Decode ``features``, float [B, C, H, W] by name."""
        coarsest, encoded = self._encode(features[self.features[0]])
        levels = [self.output_convs[0](coarsest)]
        for name, lateral, output in zip(self.features[1:], self.lateral_convs, self.output_convs[1:], strict=True):
            skip = lateral(features[name])
            levels.append(output(skip + F.interpolate(levels[-1], size=skip.shape[-2:], mode="nearest")))
        return PixelDecoderOutput(self.mask_features(levels[-1]), levels, encoded)

    def _coarsest_channels(self, backbone_channels: int, conv_dim: int) -> int:
        """Return the channels of the feature that :meth:`_encode` passes to the pyramid."""
        return backbone_channels

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the coarsest feature of the pyramid, and the transformer encoder's output, if there is an encoder."""
        return x, None
