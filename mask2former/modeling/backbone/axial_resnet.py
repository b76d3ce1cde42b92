"""The axial ResNet of MaX-DeepLab, without its memory: a backbone like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.axial_blocks import AxialBlock, Junction
from mask2former.modeling.backbone.axial_layout import AxialLayout, StageLayout
from mask2former.modeling.layers.conv_norm import ConvNorm

_FEATURES = {"res2": "stage2", "res3": "stage3", "res4": "stage4", "res5": "stage5"}


class AxialStage(nn.Module):
    """The blocks of a stage, after the sum of its inputs.

    Args:
        layout: of the stage.
        in_channels: of the stage before it.
        down: that stage has a finer stride.
        key_expansion, value_expansion, num_heads: see :class:`AxialBlock`.
    """

    def __init__(
        self,
        layout: StageLayout,
        in_channels: int,
        down: bool,
        *,
        key_expansion: int,
        value_expansion: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.inputs = layout.inputs
        if self.inputs:
            self.junction = Junction(in_channels, layout.channels, down)
            in_channels = layout.channels
        self.blocks = nn.ModuleList()
        for index, kind in enumerate(layout.kinds):
            self.blocks.append(
                AxialBlock(
                    in_channels if index == 0 else layout.channels,
                    layout.channels,
                    kind,
                    stride=layout.first_stride if index == 0 else 1,
                    key_expansion=key_expansion,
                    value_expansion=value_expansion,
                    num_heads=num_heads,
                    drop_path=layout.drop_path[index],
                )
            )


class AxialStages(Backbone):
    """The stem and the stages of a layout.

    Args:
        in_channels: of the images.
        stem_channels: of the stem's 3x3 convolutions, the first of which strides; the last has no ReLU.
        layouts: of the stages, in their order.
        key_expansion, value_expansion, num_heads: see :class:`AxialBlock`.
    """

    checkpoint_layers: tuple[type[nn.Module], ...] = (AxialBlock,)

    def __init__(
        self,
        in_channels: int,
        stem_channels: Sequence[int],
        layouts: Sequence[StageLayout],
        *,
        key_expansion: int,
        value_expansion: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        counts = [in_channels, *stem_channels]
        self.stem = nn.Sequential(
            *(
                ConvNorm(
                    counts[i], counts[i + 1], kernel_size=3, stride=2 if i == 0 else 1, relu=i < len(stem_channels) - 1
                )
                for i in range(len(stem_channels))
            )
        )
        self.layouts = {layout.name: layout for layout in layouts}
        self.stages = nn.ModuleDict()
        channels, stride = counts[-1], 2
        for layout in layouts:
            self.stages[layout.name] = AxialStage(
                layout,
                channels,
                layout.stride > stride,
                key_expansion=key_expansion,
                value_expansion=value_expansion,
                num_heads=num_heads,
            )
            channels, stride = layout.channels, layout.stride

    @property
    def size_divisibility(self) -> int:
        return 16

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of each stage, which is not activated."""
        x = self.stem(images)
        outputs: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            assert isinstance(stage, AxialStage)
            x = self.joined(stage, x, outputs)
            for block in stage.blocks:
                x = block(x)
            outputs[name] = x
        return outputs

    @staticmethod
    def joined(stage: AxialStage, x: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        """Return a stage's input: the stage before it, and the earlier ones that are added."""
        return stage.junction(x, [outputs[name] for name in stage.inputs[1:]]) if stage.inputs else x


@BACKBONE_REGISTRY.register()
class D2AxialResNet(AxialStages):
    """ResNet whose blocks at stride 16 attend along both axes (arXiv 2003.07853, 2012.00759): "res2" to "res5".

    "res4" and "res5" both have stride 16. Weights are those of MaX-DeepLab's encoder, of which it is pre-training.

    Args:
        layout: its stages are the encoder's, and the decoder's if ``out_features`` names "last".
        out_features: those that are given, of "res2" to "res5" and "last", the output of the last stage.
        in_channels, stem_channels, key_expansion, value_expansion, num_heads: see :class:`AxialStages`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        stem_channels: Sequence[int],
        layout: AxialLayout,
        out_features: Sequence[str],
        key_expansion: int = 1,
        value_expansion: int = 2,
        num_heads: int = 8,
    ) -> None:
        if unknown := sorted(set(out_features) - {*_FEATURES, "last"}):
            raise ValueError(
                f"MODEL.MAX_DEEPLAB.OUT_FEATURES names {unknown}; choose from {', '.join([*_FEATURES, 'last'])}."
            )
        stages = layout.whole() if "last" in out_features else layout.encoder()
        super().__init__(
            in_channels,
            stem_channels,
            stages,
            key_expansion=key_expansion,
            value_expansion=value_expansion,
            num_heads=num_heads,
        )
        self.sources = {name: _FEATURES.get(name, stages[-1].name) for name in out_features}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.MAX_DEEPLAB
        return {
            "in_channels": input_shape.channels,
            "stem_channels": node.STEM_CHANNELS,
            # The part that is pre-trained: neither extra stages nor dual-path blocks.
            "layout": AxialLayout(
                node.BLOCKS,
                node.CHANNELS,
                node.CONVOLUTIONS,
                axial="P2P" in node.ATTENTIONS,
                decoder_strides=node.DECODER_STRIDES,
                decoder_blocks=node.DECODER_BLOCKS,
                drop_path=node.DROP_PATH,
                drop_path_from_stride=node.DROP_PATH_FROM_STRIDE,
                drop_path_schedule=node.DROP_PATH_SCHEDULE,
            ),
            "out_features": node.OUT_FEATURES,
            "key_expansion": node.AXIAL_KEY_EXPANSION,
            "value_expansion": node.AXIAL_VALUE_EXPANSION,
            "num_heads": node.NUM_HEADS,
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute features by name from images [B, 3, H, W]."""
        outputs = self.outputs(images)
        return {name: F.relu(outputs[source]) for name, source in self.sources.items()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        layouts = {name: self.layouts[source] for name, source in self.sources.items()}
        return {name: ShapeSpec(channels=layout.channels, stride=layout.stride) for name, layout in layouts.items()}
