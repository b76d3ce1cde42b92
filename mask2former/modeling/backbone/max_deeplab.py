"""The backbone of MaX-DeepLab: an axial ResNet and its decoder, beside which a memory of mask slots runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.axial_blocks import AxialBlock
from mask2former.modeling.backbone.axial_layout import AxialLayout
from mask2former.modeling.backbone.axial_resnet import AxialStage, AxialStages
from mask2former.modeling.layers.batch_norm import truncated_normal_
from mask2former.modeling.layers.dual_path import ATTENTIONS, DualPathBlock

MEMORY, PIXELS, SEMANTIC = "memory", "pixels", "semantic"
"""Names of outputs: the memory [B, C, N], the last feature of the decoder, and that of the semantic branch."""
_FEATURES = {"res2": "stage2", "res3": "stage3", "res4": "stage4", "res5": "stage5"}


@BACKBONE_REGISTRY.register()
class D2MaXDeepLab(AxialStages):
    """MaX-DeepLab's pixels and memory (arXiv 2012.00759), which talk after each block of the coarse stages.

    Gives "res2" to "res5", "pixels" at the last stride of the decoder, "semantic" (the feature of that branch where it
    is a stage of the decoder), and "memory" [B, C, N], which :meth:`output_shape` does not list.

    Args:
        layout: of the encoder and the decoder.
        num_slots, memory_channels: N and C of the memory.
        bottleneck, key_channels, value_channels: of dual-path blocks in the last stage; in others in proportion to the
            stage's channels.
        feed_forward: see :class:`DualPathBlock`.
        attentions: those that there are, of "P2P", "M2P", "M2M" and "P2M"; P2P is ``layout.axial``.
        semantic_stage: number of the decoder's stage that the semantic branch reads, from 1; 0: it reads "res5".
        pretrained_multiplier: of the learning rate of what a classifier has too.
        in_channels, stem_channels, key_expansion, value_expansion, num_heads: see :class:`AxialStages`.
    """

    checkpoint_layers = (AxialBlock, DualPathBlock)

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        stem_channels: Sequence[int],
        layout: AxialLayout,
        num_slots: int,
        memory_channels: int,
        bottleneck: int,
        key_channels: int,
        value_channels: int,
        feed_forward: int,
        attentions: Collection[str] = ATTENTIONS,
        semantic_stage: int = 0,
        pretrained_multiplier: float = 0.1,
        key_expansion: int = 1,
        value_expansion: int = 2,
        num_heads: int = 8,
    ) -> None:
        if unknown := sorted(set(attentions) - set(ATTENTIONS)):
            raise ValueError(f"MODEL.MAX_DEEPLAB.ATTENTIONS: found {unknown}; choose from {', '.join(ATTENTIONS)}.")
        layouts = layout.whole()
        decoder = [stage.name for stage in layouts if stage.inputs]
        if not decoder or not 0 <= semantic_stage <= len(decoder):
            raise ValueError(
                f"MODEL.MAX_DEEPLAB.SEMANTIC_STAGE is {semantic_stage}, and the decoder has {len(decoder)} stages; it "
                "needs at least one, and the key 0 to that many."
            )
        super().__init__(
            in_channels,
            stem_channels,
            layouts,
            key_expansion=key_expansion,
            value_expansion=value_expansion,
            num_heads=num_heads,
        )
        self.num_slots, self.memory_channels = num_slots, memory_channels
        self.pretrained_multiplier = pretrained_multiplier
        self.memory = nn.Parameter(truncated_normal_(torch.empty(num_slots, memory_channels), 1.0))
        self.dual_paths = nn.ModuleDict()
        for stage in layouts:
            if not stage.dual_path:
                continue
            widths = [
                count * stage.channels // layout.channels[4] for count in (bottleneck, key_channels, value_channels)
            ]
            self.dual_paths[stage.name] = nn.ModuleList(
                DualPathBlock(
                    stage.channels,
                    memory_channels,
                    bottleneck=widths[0],
                    key_channels=widths[1],
                    value_channels=widths[2],
                    feed_forward=feed_forward,
                    attentions=attentions,
                    drop_path=drop,
                    num_heads=num_heads,
                )
                for drop in stage.drop_path
            )
        self.sources = _FEATURES | {PIXELS: decoder[-1]}
        if semantic_stage:
            self.sources[SEMANTIC] = decoder[semantic_stage - 1]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.MAX_DEEPLAB
        return {
            "in_channels": input_shape.channels,
            "stem_channels": node.STEM_CHANNELS,
            "layout": AxialLayout(
                node.BLOCKS,
                node.CHANNELS,
                node.CONVOLUTIONS,
                axial="P2P" in node.ATTENTIONS,
                decoder_strides=node.DECODER_STRIDES,
                decoder_blocks=node.DECODER_BLOCKS,
                extra_blocks=node.EXTRA_BLOCKS,
                extra_decoder_strides=node.EXTRA_DECODER_STRIDES,
                extra_decoder_blocks=node.EXTRA_DECODER_BLOCKS,
                dual_path_from_stage=node.DUAL_PATH_FROM_STAGE,
                drop_path=node.DROP_PATH,
                drop_path_from_stride=node.DROP_PATH_FROM_STRIDE,
                drop_path_schedule=node.DROP_PATH_SCHEDULE,
            ),
            "num_slots": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
            "memory_channels": node.MEMORY_CHANNELS,
            "bottleneck": node.BOTTLENECK,
            "key_channels": node.KEY_CHANNELS,
            "value_channels": node.VALUE_CHANNELS,
            "feed_forward": node.FEED_FORWARD,
            "attentions": node.ATTENTIONS,
            "semantic_stage": node.SEMANTIC_STAGE,
            "pretrained_multiplier": node.PRETRAINED_MULTIPLIER,
            "key_expansion": node.AXIAL_KEY_EXPANSION,
            "value_expansion": node.AXIAL_VALUE_EXPANSION,
            "num_heads": node.NUM_HEADS,
        }

    def lr_scale(self, parameter_name: str) -> float:
        """Return the factor on a parameter's rate: less for what a classifier has too."""
        first, *rest = parameter_name.split(".")
        new = first in ("memory", "dual_paths") or (first == "stages" and self.layouts[rest[0]].is_extra)
        return 1.0 if new else self.pretrained_multiplier

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute features and the memory by name from images [B, 3, H, W]."""
        x, outputs = self.stem(images), dict[str, Tensor]()
        memory = self.memory.T.expand(len(images), -1, -1)
        for name, stage in self.stages.items():
            assert isinstance(stage, AxialStage)
            x = self.joined(stage, x, outputs)
            dual_paths = self.dual_paths[name] if name in self.dual_paths else [None] * len(stage.blocks)
            for block, dual_path in zip(stage.blocks, dual_paths, strict=True):  # type: ignore[arg-type]
                x = block(x)
                if dual_path is not None:
                    x, memory = dual_path(x, memory)
            outputs[name] = x
        features = {name: F.relu(outputs[source]) for name, source in self.sources.items()}
        return features | {MEMORY: memory}

    def output_shape(self) -> dict[str, ShapeSpec]:
        layouts = {name: self.layouts[source] for name, source in self.sources.items()}
        return {name: ShapeSpec(channels=layout.channels, stride=layout.stride) for name, layout in layouts.items()}
