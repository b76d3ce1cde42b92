"""The axial ResNets of MaX-DeepLab (arXiv 2012.00759) without its memory, as a backbone for any head."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.axial_block import Kind, ResidualBlock
from mask2former.modeling.layers.conv_bn import ReLUConvBN

STRIDES = {"stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 16}
"""Strides of the stages."""
_FEATURES = {"res2": "stage2", "res3": "stage3", "res4": "stage4", "res5": "stage5"}
_LAST_INPUT_STRIDE = 32  # of a plain ResNet's last blocks, which have the full drop path


@dataclass(frozen=True)
class AxialLayout:
    """Sizes of an axial ResNet. The defaults are those of MaX-DeepLab-S.

    Attributes:
        stem: output channels of its 3x3 convolutions, the first of which has stride 2.
        depths: blocks of stage1 to stage5; stage1 may have none.
        channels: output channels of these.
        convolution: kind of the blocks that are not axial, "basic" or "bottleneck".
        axial_stages: numbers of the stages whose blocks are axial, but for the first of stage4, which strides.
        key_expansion, value_expansion, num_heads: see :class:`ResidualBlock`.
        drop_path: probability of skipping a branch at the end of the network.
        drop_path_linear: falls towards the image; or it is the same in all blocks.
        drop_path_from: stride of a block's input from which on there is drop path.
    """

    stem: Sequence[int] = (64, 64, 128)
    depths: Sequence[int] = (0, 3, 4, 6, 3)
    channels: Sequence[int] = (128, 256, 512, 1024, 2048)
    convolution: Kind = "bottleneck"
    axial_stages: Sequence[int] = (4, 5)
    key_expansion: int = 1
    value_expansion: int = 2
    num_heads: int = 8
    drop_path: float = 0.2
    drop_path_linear: bool = True
    drop_path_from: int = 16

    def __post_init__(self) -> None:
        node = "MODEL.AXIAL_RESNET"
        if not self.stem:
            raise ValueError(f"{node}.STEM_CHANNELS is empty; name the output channels of one convolution or more.")
        if len(self.depths) != len(STRIDES) or len(self.channels) != len(STRIDES) or not all(self.depths[1:]):
            raise ValueError(
                f"{node}: DEPTHS {list(self.depths)} and CHANNELS {list(self.channels)} need {len(STRIDES)} numbers "
                "each, one for each stage; only stage 1 may have no blocks."
            )
        if self.convolution not in ("basic", "bottleneck"):
            raise ValueError(f"{node}.CONVOLUTION is {self.convolution!r}; choose basic or bottleneck.")
        if not set(self.axial_stages) <= {4, 5}:
            raise ValueError(
                f"{node}.AXIAL_STAGES is {list(self.axial_stages)}; only stages 4 and 5, of stride 16, can be axial."
            )
        if any(count % 4 for count in self.channels):
            raise ValueError(f"{node}.CHANNELS are {list(self.channels)}; they have to be multiples of 4.")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> AxialLayout:
        node = cfg.MODEL.AXIAL_RESNET
        if node.DROP_PATH_SCHEDULE not in ("linear", "constant"):
            raise ValueError(
                f"MODEL.AXIAL_RESNET.DROP_PATH_SCHEDULE is {node.DROP_PATH_SCHEDULE!r}; choose linear or constant."
            )
        return cls(
            stem=node.STEM_CHANNELS,
            depths=node.DEPTHS,
            channels=node.CHANNELS,
            convolution=node.CONVOLUTION,
            axial_stages=node.AXIAL_STAGES,
            key_expansion=node.KEY_EXPANSION,
            value_expansion=node.VALUE_EXPANSION,
            num_heads=node.NUM_HEADS,
            drop_path=node.DROP_PATH,
            drop_path_linear=node.DROP_PATH_SCHEDULE == "linear",
            drop_path_from=node.DROP_PATH_FROM_STRIDE,
        )

    def drop_path_at(self, stride: int) -> float:
        """Return the probability of skipping a branch whose input has this stride in a plain ResNet."""
        if stride < self.drop_path_from:
            return 0.0
        return self.drop_path * ((math.log2(stride) - 1) / 4 if self.drop_path_linear else 1.0)

    def block(self, in_channels: int, out_channels: int, *, axial: bool, input_stride: int, stride: int = 1) -> Any:
        """Build a block of the layout; ``input_stride`` as in :meth:`drop_path_at`."""
        return ResidualBlock(
            in_channels,
            out_channels,
            kind="axial" if axial else self.convolution,
            stride=stride,
            key_expansion=self.key_expansion,
            value_expansion=self.value_expansion,
            num_heads=self.num_heads,
            drop_path=self.drop_path_at(input_stride),
        )

    def stages(self) -> dict[str, list[ResidualBlock]]:
        """Build the blocks of the stages that have any, by name."""
        built, channels, stride = {}, self.stem[-1], 2
        for number, (depth, out_channels) in enumerate(zip(self.depths, self.channels, strict=True), 1):
            if not depth:
                continue
            plain = 2**number  # stride of the stage in a plain ResNet, which goes to 32
            step = STRIDES[f"stage{number}"] // stride
            blocks = []
            for index in range(depth):
                axial = number in self.axial_stages and not (index == 0 and step > 1)
                before = plain if index or number == 1 else plain // 2
                blocks.append(
                    self.block(channels, out_channels, axial=axial, input_stride=before, stride=1 if index else step)
                )
                channels = out_channels
            built[f"stage{number}"], stride = blocks, STRIDES[f"stage{number}"]
        return built


class Stem(nn.Sequential):
    """3x3 convolutions with normalisation, the first with stride 2, ReLU between them. Names are the published ones."""

    def __init__(self, channels: Sequence[int]) -> None:
        convolutions: OrderedDict[str, nn.Module] = OrderedDict()
        counts = [3, *channels]
        for index, (before, after) in enumerate(zip(counts, channels, strict=False)):
            last = index == len(channels) - 1
            name = f"conv{index + 1}_bn" + ("" if last else "_act")
            convolutions[name] = ReLUConvBN(before, after, kernel_size=3, stride=1 if index else 2, active=not last)
        super().__init__(convolutions)


@BACKBONE_REGISTRY.register()
class D2AxialResNet(Backbone):
    """An axial ResNet; "res2" to "res5" are its stages after ReLU, at strides 4, 8, 16 and 16.

    Images of any size go in; features have ceil(side / stride) cells, and the cells' centres are those of aligned
    corners where sides are multiples of 16 plus 1.

    Args:
        layout: sizes.
        out_features: names out of "res2", "res3", "res4", "res5".

    Raises:
        ValueError: an unknown feature.
    """

    checkpoint_layers = (ResidualBlock,)

    @configurable
    def __init__(self, layout: AxialLayout, out_features: Sequence[str] = tuple(_FEATURES)) -> None:
        super().__init__()
        if unknown := [name for name in out_features if name not in _FEATURES]:
            raise ValueError(f"MODEL.AXIAL_RESNET.OUT_FEATURES names {unknown}; choose from {', '.join(_FEATURES)}.")
        self.layout, self._out_features = layout, list(out_features)
        self.stem = Stem(layout.stem)
        for name, blocks in layout.stages().items():
            named: OrderedDict[str, nn.Module] = OrderedDict()
            named.update((f"block{index}", block) for index, block in enumerate(blocks, 1))
            self.add_module(name, nn.Sequential(named))

    @classmethod
    def from_config(cls, cfg: CfgNode, _: ShapeSpec) -> dict[str, Any]:
        return {"layout": AxialLayout.from_config(cfg), "out_features": cfg.MODEL.AXIAL_RESNET.OUT_FEATURES}

    @property
    def size_divisibility(self) -> int:
        return 16

    def output_shape(self) -> dict[str, ShapeSpec]:
        channels = dict(zip(STRIDES, self.layout.channels, strict=True))
        stages = {name: _FEATURES[name] for name in self._out_features}
        return {name: ShapeSpec(channels=channels[stage], stride=STRIDES[stage]) for name, stage in stages.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute features of images [B, 3, H, W]."""
        x, stages = self.stem(images), {}
        for name in STRIDES:
            if hasattr(self, name):
                x = stages[name] = cast(nn.Module, getattr(self, name))(x)
        return {name: F.relu(stages[_FEATURES[name]]) for name in self._out_features}
