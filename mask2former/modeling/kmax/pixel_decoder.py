"""kMaX-DeepLab's pixel decoder: residual blocks at each stride, axial attention at the coarse ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.convnext import ChannelsFirstNorm
from mask2former.modeling.layers.axial_attention import AxialAttention2d
from mask2former.modeling.layers.conv_bn import ConvBN, channels_last, resize_aligned
from mask2former.modeling.layers.drop_path import DropPath
from mask2former.modeling.pixel_decoder import HOW_TO_GIVE, PixelDecoderOutput

KINDS = ("axial", "bottleneck")
_EXPANSION = 4  # channels of a block's output, relative to its base


class Block(nn.Module):
    """Residual block without activation at its end; its input is activated instead.

    Args:
        in_channels: C.
        base: F; the output has 4 F channels.
        kind: "axial": attention between two 1x1 convolutions; "bottleneck": a 3x3 convolution between them.
        drop_path: probability that an image skips the branch in training.
        num_heads: of the attention.
    """

    def __init__(self, in_channels: int, base: int, *, kind: str, drop_path: float, num_heads: int) -> None:
        super().__init__()
        axial = kind == "axial"
        inner, out_channels = (2 * base if axial else base), _EXPANSION * base
        self._conv1_bn_act = ConvBN(in_channels, inner, active=True)
        if axial:
            self._attention = AxialAttention2d(inner, key_channels=base, value_channels=inner, num_heads=num_heads)
        else:
            self._conv2_bn_act = ConvBN(inner, inner, kernel_size=3, active=True)
        self._conv3_bn = ConvBN(inner, out_channels, norm=0.0)
        self._shortcut = ConvBN(in_channels, out_channels) if in_channels != out_channels else None
        self.axial, self.drop_path = axial, DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, C, H, W] -> [B, 4 F, H, W]."""
        x = F.gelu(channels_last(x))
        inner = self._conv1_bn_act(x)
        inner = F.gelu(self._attention(inner)) if self.axial else self._conv2_bn_act(inner)
        return self.drop_path(self._conv3_bn(inner)) + (x if self._shortcut is None else self._shortcut(x))


class Stage(nn.Module):
    """The blocks of a stride."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self._blocks:
            x = block(x)
        return x


class ResizedFuse(nn.Module):
    """Sum of a coarse map, resized, and a fine one, each brought to the wanted channels if it has others.

    Args:
        low, high: channels of the coarse and of the fine map.
        out_channels: of the sum.
    """

    def __init__(self, low: int, high: int, out_channels: int) -> None:
        super().__init__()
        self._conv_bn_low = ConvBN(low, out_channels) if low != out_channels else None
        self._conv_bn_high = ConvBN(high, out_channels) if high != out_channels else None

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Add up; low [B, C, h, w], high [B, C', H, W] -> [B, C'', H, W]."""
        if self._conv_bn_low is not None:
            low = self._conv_bn_low(F.gelu(channels_last(low)))
        if self._conv_bn_high is not None:
            high = self._conv_bn_high(F.gelu(high))
        return resize_aligned(low, (high.shape[-2], high.shape[-1])) + high


@SEM_SEG_HEADS_REGISTRY.register()
class kMaXPixelDecoder(nn.Module):
    """Pixel decoder of kMaX-DeepLab (arXiv 2207.04044), from the coarsest feature to the finest.

    Features of one stride keep the order in which the backbone lists them: a ResNet's stem comes before "res2", that of
    a ConvNeXt after it. Published weights depend on this.

    Args:
        input_shape: channels and stride of the backbone's features.
        depths, kinds, bases: blocks, their kind ("axial", "bottleneck") and a quarter of their channels, for each
            feature from the coarsest on.
        num_levels: stages, from the coarsest on, that the transformer decoder reads.
        drop_path, num_heads: see :class:`Block`.

    Raises:
        ValueError: not one number or kind for each feature, a stage without blocks, or an unknown kind.
    """

    checkpoint_layers = (Block,)

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        depths: Sequence[int],
        kinds: Sequence[str],
        bases: Sequence[int],
        num_levels: int = 3,
        drop_path: float = 0.0,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: -(input_shape[name].stride or 0))
        key = "MODEL.KMAX_DEEPLAB.PIXEL_DEC"
        if not len(self.in_features) == len(depths) == len(kinds) == len(bases):
            raise ValueError(
                f"{key}: IN_FEATURES are {self.in_features}, so DEC_LAYERS {list(depths)}, LAYER_TYPES {list(kinds)} "
                f"and DEC_CHANNELS {list(bases)} need {len(self.in_features)} entries each."
            )
        if any(depth < 1 for depth in depths):
            raise ValueError(f"{key}.DEC_LAYERS is {list(depths)}; each stage needs at least one block.")
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise ValueError(f"{key}.LAYER_TYPES: found {unknown}; choose from {', '.join(KINDS)}.")
        if not 0 < num_levels <= len(bases):
            raise ValueError(
                f"MODEL.KMAX_DEEPLAB.TRANS_DEC.DEC_LAYERS has {num_levels} entries; the pixel decoder has {len(bases)} "
                "stages, so 1 to that many."
            )
        self.num_levels = num_levels
        self.out_channels = [_EXPANSION * base for base in bases]
        channels = [input_shape[name].channels or 0 for name in self.in_features]
        self._in_norms = nn.ModuleList(ChannelsFirstNorm(count) for count in channels)
        self._resized_fuses = nn.ModuleList(
            ResizedFuse(low, high, base)
            for low, high, base in zip(self.out_channels, channels[1:], bases[1:], strict=False)
        )
        self._stages = nn.ModuleList()
        for first, base, depth, kind in zip([channels[0], *bases[1:]], bases, depths, kinds, strict=True):
            counts = [first] + [_EXPANSION * base] * (depth - 1)
            self._stages.append(
                Stage([Block(count, base, kind=kind, drop_path=drop_path, num_heads=num_heads) for count in counts])
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.KMAX_DEEPLAB
        if missing := [name for name in node.PIXEL_DEC.IN_FEATURES if name not in input_shape]:
            raise ValueError(
                f"MODEL.KMAX_DEEPLAB.PIXEL_DEC.IN_FEATURES names {missing}, but the backbone gives "
                f"{sorted(input_shape)}; {HOW_TO_GIVE}"
            )
        return {
            "input_shape": {name: of for name, of in input_shape.items() if name in node.PIXEL_DEC.IN_FEATURES},
            "depths": node.PIXEL_DEC.DEC_LAYERS,
            "kinds": node.PIXEL_DEC.LAYER_TYPES,
            "bases": node.PIXEL_DEC.DEC_CHANNELS,
            "num_levels": len(node.TRANS_DEC.DEC_LAYERS),
            "drop_path": node.PIXEL_DEC.DROP_PATH_PROB,
            "num_heads": node.PIXEL_DEC.NUM_HEADS,
        }

    def forward(self, features: Mapping[str, Tensor]) -> PixelDecoderOutput:
        """Decode ``features`` [B, C, h, w] by name; outputs have 4 F channels and the features' sizes."""
        normed = [norm(features[name]) for name, norm in zip(self.in_features, self._in_norms, strict=True)]
        levels = [self._stages[0](normed[0])]
        for stage, fuse, high in zip(self._stages[1:], self._resized_fuses, normed[1:], strict=True):
            levels.append(stage(fuse(levels[-1], high)))
        return PixelDecoderOutput(levels[-1], levels[: self.num_levels])
