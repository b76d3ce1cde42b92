"""The head of MaX-DeepLab: classes and masks from memory and pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.kmax.predictor import Predictor, start_mask_logits
from mask2former.modeling.kmax.semantic import SemanticDecoder
from mask2former.modeling.layers.conv_bn import ReLUConvBN
from mask2former.modeling.max_deeplab.backbone import LAST, MEMORY, SEMANTIC
from mask2former.modeling.max_deeplab.semantic import SemanticHead
from mask2former.structures import SEMANTIC as SEMANTIC_LOGITS
from mask2former.structures import MaskPrediction


@SEM_SEG_HEADS_REGISTRY.register()
class MaXDeepLabHead(nn.Module):
    """Class and mask features of the memory, then the predictor that kMaX-DeepLab has too; and the semantic branch.

    Args:
        input_shape: channels of the backbone's features.
        num_classes: K, without "no object".
        num_queries: N, the slots.
        memory_channels: C_m.
        channels: of the slots' class and mask features.
        pixel_channels: hidden channels of the pixels' embedding.
        mask_dim: D of the masks' embeddings.
        semantic_decoder: the semantic branch is a decoder from "res5", "res3" and "res2"; False: a head on "semantic".
        mask_scale: deviation of mask logits at the beginning of a training.

    Raises:
        ValueError: the backbone has no memory.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        num_queries: int,
        memory_channels: int = 256,
        channels: int = 256,
        pixel_channels: int = 256,
        mask_dim: int = 128,
        semantic_decoder: bool = True,
        mask_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if missing := sorted({LAST, SEMANTIC} - set(input_shape)):
            raise ValueError(
                f"MaXDeepLabHead needs a backbone with a memory, whose features are {', '.join(missing)} too; found "
                f"{sorted(input_shape)}. Set MODEL.BACKBONE.NAME to D2MaXDeepLab."
            )
        self.num_classes, self.num_queries = num_classes, num_queries
        self.class_feature = ReLUConvBN(memory_channels, channels, active=True, lines=True)
        self.mask_feature = ReLUConvBN(memory_channels, channels, active=True, lines=True)
        self.predictor = Predictor(
            input_shape[LAST].channels or 0,
            channels,
            mask_dim,
            num_classes,
            head_channels=pixel_channels,
            brick=ReLUConvBN,
        )
        start_mask_logits(self, mask_scale)
        self.semantic = (
            SemanticDecoder(input_shape, num_classes, ReLUConvBN)
            if semantic_decoder
            else SemanticHead(input_shape[SEMANTIC].channels or 0, num_classes)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.MAX_DEEPLAB
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "num_queries": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
            "memory_channels": node.MEMORY_CHANNELS,
            "channels": node.HEAD_CHANNELS,
            "pixel_channels": node.PIXEL_HEAD_CHANNELS,
            "mask_dim": node.MASK_DIM,
            "semantic_decoder": node.SEMANTIC_DECODER,
            "mask_scale": node.MASK_SCALE,
        }

    def forward(self, features: Mapping[str, Tensor], num_frames: int = 1) -> MaskPrediction:
        """Predict.

        Args:
            features: [B, C, h, w] by name, and the memory [B, N, C_m].
            num_frames: T, which has to be 1.

        Raises:
            ValueError: clips of several frames.
        """
        if num_frames != 1:
            raise ValueError(f"MaX-DeepLab takes single images; found clips of {num_frames} frames.")
        memory = features[MEMORY].transpose(1, 2)
        masks = self.predictor.masks(features[LAST], self.mask_feature(memory))
        prediction = self.predictor.predict(masks, self.class_feature(memory))
        if self.training:
            prediction.extras[SEMANTIC_LOGITS] = self.semantic(features)
        return prediction
