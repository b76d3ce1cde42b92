"""MaX-DeepLab's network of pixels and memory (arXiv 2012.00759): encoder with dual-path blocks, and stacked decoder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.axial_block import ResidualBlock
from mask2former.modeling.backbone.axial_resnet import AxialLayout, Stem
from mask2former.modeling.layers.batch_norm import truncated_normal_
from mask2former.modeling.layers.dual_path import ATTENTIONS, DualPathBlock
from mask2former.modeling.max_deeplab.route import COARSEST, Stop, route
from mask2former.modeling.max_deeplab.stages import DualPathStage, Junction

LAST, SEMANTIC, MEMORY = "stride4", "semantic", "memory"
"""Features of the decoder's end and for the semantic branch, [B, C, h, w], and the memory, [B, N, C_m]."""
_STAGE_OF_STRIDE = {4: 2, 8: 3, COARSEST: 5}  # whose channels the decoder has there
_ENCODER = {"res2": "stage2", "res3": "stage3", "res5": "stage5"}


@BACKBONE_REGISTRY.register()
class D2MaXDeepLab(Backbone):
    """The axial ResNet with a memory, to which pixels talk in every dual-path block, and the stacked decoder.

    It owns the memory because these blocks change the pixels inside the encoder. Features are "res2", "res3" and
    "res5" (before the decoder), "semantic" and "stride4" (decoder), all after ReLU, and "memory" [B, N, C_m], which
    :meth:`output_shape` does not list. Images of any size go in. Parameters have the published names.

    Args:
        layout: sizes of the ResNet.
        num_slots: N.
        memory_channels: C_m.
        key_channels: of dual-path blocks after the last stage; of others in proportion to their pixels' channels.
        feed_forward: hidden channels of the memory's networks.
        num_heads: of dual-path blocks.
        dual_path_stages: numbers of the encoder's stages that have dual-path blocks; the decoder has them at stride 16.
        decoder_blocks: residual blocks of each stage of the decoder, and of the end of the encoder, that is not
            pre-trained; the others have one.
        pretrained_rounds, new_rounds: see :func:`route`.
        attentions: names out of :data:`ATTENTIONS`. Without "P2P" axial blocks are convolutions.

    Raises:
        ValueError: an unknown attention or stage, or wrong numbers of rounds or blocks.
    """

    checkpoint_layers = (ResidualBlock, DualPathBlock)

    @configurable
    def __init__(
        self,
        layout: AxialLayout,
        *,
        num_slots: int = 128,
        memory_channels: int = 256,
        key_channels: int = 128,
        feed_forward: int = 2048,
        num_heads: int = 8,
        dual_path_stages: Collection[int] = (5,),
        decoder_blocks: int = 1,
        pretrained_rounds: int = 0,
        new_rounds: int = 0,
        attentions: Collection[str] = ATTENTIONS,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(attentions) - set(ATTENTIONS)):
            raise ValueError(f"MODEL.MAX_DEEPLAB.ATTENTIONS names {unknown}; choose from {', '.join(ATTENTIONS)}.")
        if wrong := sorted(set(dual_path_stages) - set(range(1, len(layout.channels) + 1))):
            raise ValueError(
                f"MODEL.MAX_DEEPLAB.DUAL_PATH_STAGES names {wrong}; the stages are 1 to {len(layout.channels)}."
            )
        if min(pretrained_rounds, new_rounds) < 0 or decoder_blocks < 1:
            raise ValueError(
                f"MODEL.MAX_DEEPLAB: PRETRAINED_ROUNDS is {pretrained_rounds} and NEW_ROUNDS {new_rounds}, which may "
                f"not be negative, and DECODER_BLOCKS {decoder_blocks}, which has to be at least 1."
            )
        self.layout = layout = layout if "P2P" in attentions else replace(layout, axial_stages=())
        self.stem = Stem(layout.stem)

        def dual_paths(blocks: Sequence[ResidualBlock], channels: int) -> list[DualPathBlock]:
            return [
                DualPathBlock(
                    channels,
                    memory_channels,
                    key_channels=key_channels * channels // layout.channels[-1],
                    feed_forward=feed_forward,
                    num_heads=num_heads,
                    drop_path=block.drop_path.p,
                    attentions=attentions,
                )
                for block in blocks
            ]

        self.encoder: list[str] = []
        for name, blocks in layout.stages().items():
            number = int(name[-1])
            transformers = dual_paths(blocks, layout.channels[number - 1]) if number in dual_path_stages else []
            self.add_module(name, DualPathStage(blocks, transformers))
            self.encoder.append(name)
        self.route = list(route(pretrained_rounds, new_rounds))
        new = False
        for stop in self.route:
            new = new or stop.name.endswith("_extra")
            channels = self._channels(stop.stride)
            if stop.others:
                junction = Junction(self._channels(stop.before), channels, down=stop.stride > stop.before)
                self.add_module(f"{stop.name}_resized_fuse", junction)
            coarsest = stop.stride == COARSEST
            depth, before = decoder_blocks if new else 1, 2 * COARSEST if coarsest else stop.stride
            axial = coarsest and 5 in layout.axial_stages
            blocks = [layout.block(channels, channels, axial=axial, input_stride=before) for _ in range(depth)]
            self.add_module(stop.name, DualPathStage(blocks, dual_paths(blocks, channels) if coarsest else ()))
        self._semantic = next(stop.name for stop in self.route if stop.stride == 4 and stop.name.endswith("_extra"))
        self.memory_feature = nn.Parameter(torch.empty(1, num_slots, memory_channels))
        truncated_normal_(self.memory_feature, 1.0)

    @classmethod
    def from_config(cls, cfg: CfgNode, _: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.MAX_DEEPLAB
        return {
            "layout": AxialLayout.from_config(cfg),
            "num_slots": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
            "memory_channels": node.MEMORY_CHANNELS,
            "key_channels": node.KEY_CHANNELS,
            "feed_forward": node.DIM_FEEDFORWARD,
            "num_heads": node.NUM_HEADS,
            "dual_path_stages": node.DUAL_PATH_STAGES,
            "decoder_blocks": node.DECODER_BLOCKS,
            "pretrained_rounds": node.PRETRAINED_ROUNDS,
            "new_rounds": node.NEW_ROUNDS,
            "attentions": node.ATTENTIONS,
        }

    @property
    def size_divisibility(self) -> int:
        return COARSEST

    def _channels(self, stride: int) -> int:
        return self.layout.channels[_STAGE_OF_STRIDE[stride] - 1]

    def output_shape(self) -> dict[str, ShapeSpec]:
        strides = {"res2": 4, "res3": 8, "res5": COARSEST, SEMANTIC: 4, LAST: 4}
        return {name: ShapeSpec(channels=self._channels(stride), stride=stride) for name, stride in strides.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute features of images [B, 3, H, W] by name, each with ceil(side / stride) cells, and the memory."""
        pixels = self.stem(images)
        memory = self.memory_feature.transpose(1, 2).expand(images.shape[0], -1, -1)
        kept: dict[str, Tensor] = {}
        for name in self.encoder:
            pixels, memory = self._stage(name, pixels, memory)
            kept[name] = pixels
        for stop in self.route:
            pixels, memory = self._stage(stop.name, self._joined(stop, pixels, kept), memory)
            kept[stop.name] = pixels
        features = {name: F.relu(kept[stage]) for name, stage in _ENCODER.items()}
        features |= {SEMANTIC: F.relu(kept[self._semantic]), LAST: F.relu(pixels)}
        return features | {MEMORY: memory.transpose(1, 2)}

    def _stage(self, name: str, pixels: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return cast(DualPathStage, getattr(self, name))(pixels, memory)

    def _joined(self, stop: Stop, pixels: Tensor, kept: dict[str, Tensor]) -> Tensor:
        if not stop.others:
            return pixels
        junction = cast(nn.Module, getattr(self, f"{stop.name}_resized_fuse"))
        return junction(pixels, [kept[name] for name in stop.others])

    def is_new(self, parameter_name: str) -> bool:
        """Tell whether a parameter is not pre-trained with the ResNet, and so learns at the full rate."""
        stage = parameter_name.split(".")[0]
        return "_transformer." in parameter_name or "_extra" in stage or stage == "memory_feature"
