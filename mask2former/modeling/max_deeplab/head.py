"""The heads of MaX-DeepLab: classes and masks from the memory and the last pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.backbone.max_deeplab import MEMORY, PIXELS
from mask2former.modeling.kmax.predictor import MaskNorm
from mask2former.modeling.layers.batch_norm import BatchNorm, truncated_normal_
from mask2former.modeling.layers.conv_norm import ConvNorm, SeparableConv
from mask2former.modeling.layers.precision import at_least_float32, without_autocast
from mask2former.modeling.max_deeplab.semantic import SemanticBranch
from mask2former.structures import FactoredMasks, MaskPrediction

SEMANTIC_LOGITS = "semantic_logits"
"""Name of an extra output of training: logits of the auxiliary semantic branch, [B, K + 1, h, w]."""
_VOID_PRIOR = 0.9  # probability of "no object" at the beginning of a training
_PIXEL_CHANNELS = 256


@SEM_SEG_HEADS_REGISTRY.register()
class MaXDeepLabHead(nn.Module):
    """Mask logits ``a f . g``, f from the memory, g of unit length from the pixels; a is a batch norm folded into f.

    The norm's shift is one number for all slots, which softmax over slots does not see; it is left out.

    Args:
        input_shape: channels of the backbone's features.
        memory_channels: of the memory.
        num_classes: K, without "no object".
        channels: hidden channels of classes and masks.
        mask_dim: D of f and g.
        mask_scale: deviation of mask logits at the beginning of a training.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        memory_channels: int,
        num_classes: int,
        channels: int = 256,
        mask_dim: int = 128,
        mask_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_feature = ConvNorm(memory_channels, channels, relu=True, lines=True)
        self.class_logits = nn.Conv1d(channels, num_classes + 1, 1)
        self.mask_feature = ConvNorm(memory_channels, channels, relu=True, lines=True)
        self.mask_embed = ConvNorm(channels, mask_dim, lines=True)
        self.pixel_conv = SeparableConv(input_shape[PIXELS].channels or 0, _PIXEL_CHANNELS)
        self.pixel_last = nn.Conv2d(_PIXEL_CHANNELS, mask_dim, 1)
        self.pixel_norm = BatchNorm(mask_dim)
        self.mask_norm = MaskNorm()
        nn.init.constant_(self.mask_norm.weight, mask_scale)
        self.semantic = SemanticBranch(input_shape, num_classes)
        for last in (self.class_logits, self.pixel_last):
            truncated_normal_(last.weight, 0.01)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
        self._no_object = math.log(num_classes * _VOID_PRIOR / (1 - _VOID_PRIOR))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.MAX_DEEPLAB
        return {
            "input_shape": input_shape,
            "memory_channels": node.MEMORY_CHANNELS,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "channels": node.HEAD_CHANNELS,
            "mask_dim": node.MASK_DIM,
            "mask_scale": node.MASK_SCALE,
        }

    def forward(self, features: Mapping[str, Tensor], num_frames: int = 1) -> MaskPrediction:
        """Predict from the backbone's ``features`` by name; in training with the semantic branch's logits.

        Raises:
            ValueError: clips of several frames.
        """
        if num_frames != 1:
            raise ValueError(f"MaX-DeepLab takes single images; found clips of {num_frames} frames.")
        memory = features[MEMORY]
        logits = self.class_logits(self.class_feature(memory)).transpose(1, 2)
        logits = logits + F.pad(logits.new_full((1,), self._no_object), (self.num_classes, 0))
        prediction = MaskPrediction(logits, self._masks(features[PIXELS], memory))
        if self.training:
            prediction.extras[SEMANTIC_LOGITS] = self.semantic(features)
            prediction.extras["pixel_embedding"] = prediction.masks.features[:, :, 0]
        return prediction

    def _masks(self, pixels: Tensor, memory: Tensor) -> FactoredMasks:
        """Return the masks in float32: which slot has a pixel depends on the last bits of these products."""
        pixels = self.pixel_norm(self.pixel_last(self.pixel_conv(pixels)))
        features = F.normalize(at_least_float32(pixels), dim=1)
        embed = at_least_float32(self.mask_embed(self.mask_feature(memory))).transpose(1, 2)
        with without_autocast(features):
            embed = self.mask_norm(embed, features.flatten(2) if self.training else None)
        return FactoredMasks(embed, features[:, :, None], activation="softmax", align_corners=True)
