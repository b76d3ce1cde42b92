"""ConvNeXt (arXiv 2201.03545) with kMaX-DeepLab's padding. Parameters have the official names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.drop_path import DropPath

_STAGES = ("res2", "res3", "res4", "res5")
_STEM = "stem"
_EPS = 1e-6


class ChannelsFirstNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution, layer normalisation, and a feed-forward network of four times the width.

    Args:
        channels: C.
        drop_path: probability that an image skips the branch in training.
        layer_scale: start of the factor on the branch.
    """

    def __init__(self, channels: int, *, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, _EPS)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W]."""
        branch = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        branch = self.gamma * self.pwconv2(F.gelu(self.pwconv1(branch)))
        return x + self.drop_path(branch.permute(0, 3, 1, 2))


@BACKBONE_REGISTRY.register()
class D2ConvNeXt(Backbone):
    """ConvNeXt for canvases whose sides are 32 k + 1, whose features have 32 k / stride + 1 cells.

    Zeros are added before the stem (1 at the left and top, 2 at the right and bottom) and before each later stride (1
    at the right and bottom, before its normalisation). Other sizes work too. Features are the stages' outputs as they
    are; "stem", the first block's input, has stride 4 like "res2" and is listed last.

    Args:
        in_channels: channels of the images.
        depths, dims: blocks and channels of the four stages.
        drop_path_rate: stochastic depth of the last block, to which the others rise from 0.
        layer_scale: start of the factors on the branches.
        out_features: names among "stem" and "res2" to "res5".

    Raises:
        ValueError: no features, an unknown one, or not four stages.
    """

    checkpoint_layers = (ConvNeXtBlock,)

    @configurable
    def __init__(
        self,
        *,
        in_channels: int = 3,
        depths: Sequence[int],
        dims: Sequence[int],
        drop_path_rate: float = 0.0,
        layer_scale: float = 1e-6,
        out_features: Sequence[str] = _STAGES,
    ) -> None:
        super().__init__()
        if len(depths) != len(_STAGES) or len(dims) != len(_STAGES):
            raise ValueError(
                f"MODEL.CONVNEXT.DEPTHS is {list(depths)} and DIMS {list(dims)}; ConvNeXt has four stages, so both "
                "need four numbers."
            )
        if not out_features or (unknown := sorted(set(out_features) - {_STEM, *_STAGES})):
            raise ValueError(
                f"MODEL.CONVNEXT.OUT_FEATURES: ConvNeXt gives stem, {', '.join(_STAGES)}; found "
                f"{unknown if out_features else 'none'}."
            )
        channels = dict(zip(_STAGES, dims, strict=True)) | {_STEM: dims[0]}
        strides = dict(zip(_STAGES, (4, 8, 16, 32), strict=True)) | {_STEM: 4}
        self._out_features = [name for name in (*_STAGES, _STEM) if name in out_features]
        self._out_feature_channels, self._out_feature_strides = channels, strides
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(in_channels, dims[0], 4, 4), ChannelsFirstNorm(dims[0]))]
        )
        for before, after in itertools.pairwise(dims):
            self.downsample_layers.append(nn.Sequential(ChannelsFirstNorm(before), nn.Conv2d(before, after, 2, 2)))
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(list(depths))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(dim, drop_path=rate, layer_scale=layer_scale) for rate in of_stage.tolist()))
            for dim, of_stage in zip(dims, rates, strict=True)
        )
        self.apply(_init)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.CONVNEXT
        return {
            "in_channels": node.IN_CHANNELS,
            "depths": node.DEPTHS,
            "dims": node.DIMS,
            "drop_path_rate": node.DROP_PATH_RATE,
            "layer_scale": node.LSIT,
            "out_features": node.OUT_FEATURES,
        }

    @property
    def size_divisibility(self) -> int:
        """Multiple, in pixels, of which sides are 1 more where all features have 32 k / stride + 1 cells."""
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute features [B, C, h, w] by name from normalised images [B, 3, H, W]; h = (H - 1) // stride + 1."""
        features = {}
        for name, downsample, stage in zip(_STAGES, self.downsample_layers, self.stages, strict=True):
            x = downsample(F.pad(x, (1, 2, 1, 2) if name == _STAGES[0] else (0, 1, 0, 1)))
            if name == _STAGES[0]:
                features[_STEM] = x
            x = features[name] = stage(x)
        return {name: features[name] for name in self._out_features}


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
