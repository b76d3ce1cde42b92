"""MaskFormer's baselines, which classify each pixel (arXiv 2107.06278, section 4.1, "Baseline models")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fvcore.nn.weight_init as weight_init
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.checkpoint.module_hook import convert_on_load
from mask2former.modeling.meta_arch.decoder_input import (
    pixel_decoder_from_config,
    select_decoder_input,
    transformer_decoder_from_config,
)


@SEM_SEG_HEADS_REGISTRY.register()
class PerPixelBaselineHead(nn.Module):
    """Pixel decoder, then a 1x1 convolution to K classes; a head of Detectron2's ``SemanticSegmentor``.

    Args:
        input_shape: the backbone's features.
        pixel_decoder: backbone features -> ``PixelDecoderOutput``.
        predictor: mask features [B, mask_dim, H, W] -> logits [B, K, H, W].
        ignore_value: label of pixels without ground truth.
        loss_weight: weight of the cross-entropy.
        common_stride: stride of the mask features, in pixels; must be that of the finest feature.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        pixel_decoder: nn.Module,
        predictor: nn.Module,
        ignore_value: int,
        loss_weight: float = 1.0,
        common_stride: int = 4,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        finest = input_shape[self.in_features[0]].stride
        if finest != common_stride:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE is {common_stride}, but the finest of its IN_FEATURES, "
                f"{self.in_features[0]}, has stride {finest}."
            )
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.common_stride = common_stride
        # The head does it, because the whole model is Detectron2's SemanticSegmentor, which knows nothing of formats.
        convert_on_load(self, "sem_seg_head.")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        pixel_decoder, shapes = pixel_decoder_from_config(cfg, input_shape)
        predictor = Conv2d(head.MASK_DIM, head.NUM_CLASSES, kernel_size=1)
        weight_init.c2_msra_fill(predictor)
        return {
            "input_shape": shapes,
            "pixel_decoder": pixel_decoder,
            "predictor": predictor,
            "ignore_value": head.IGNORE_VALUE,
            "loss_weight": head.LOSS_WEIGHT,
            "common_stride": head.COMMON_STRIDE,
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Compute losses or logits, as ``SemanticSegmentor`` expects.

        Args:
            features: [B, C, H, W] by name.
            targets: [B, H', W'] int64, in training: the class of each pixel, or ``ignore_value``.

        Returns:
            In training, None and the weighted losses; at inference, logits [B, K, H', W'] at the size of the padded
            images and no losses.

        Raises:
            ValueError: there are no targets in training.
        """
        *earlier, last = self._logits(features)
        if not self.training:
            return self._full_size(last), {}
        if targets is None:
            raise ValueError(
                "A per-pixel baseline learns from `sem_seg`, the class of every pixel, and the data mapper gave none. "
                "Set INPUT.DATASET_MAPPER_NAME to mask_former_semantic and META_ARCHITECTURE to SemanticSegmentor."
            )
        losses = {f"loss_sem_seg_{i}": self._loss(logits, targets) for i, logits in enumerate(earlier)}
        return None, {"loss_sem_seg": self._loss(last, targets), **losses}

    def _logits(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Compute the logits [B, K, H, W] of each supervised prediction; the last is the result."""
        decoded = self.pixel_decoder({name: features[name] for name in self.in_features})
        return [self.predictor(decoded.mask_features)]

    def _full_size(self, logits: Tensor) -> Tensor:
        return F.interpolate(logits.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the weighted mean loss over the pixels that have a label; 0 if none has."""
        height, width = targets.shape[-2:]  # not always multiples of the stride
        logits = self._full_size(logits)[..., :height, :width]
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, reduction="sum")
        return self.loss_weight * total / (targets != self.ignore_value).sum().clamp(min=1)


@SEM_SEG_HEADS_REGISTRY.register()
class PerPixelBaselinePlusHead(PerPixelBaselineHead):
    """Per-pixel baseline with MaskFormer's transformer decoder, whose K queries are the classes.

    A class's logits are the product of its query's mask embedding and the mask features, without classification.

    Args:
        transformer_decoder: (features attended to, mask features) -> ``MaskPrediction`` of K queries.
        transformer_in_feature: features attended to, see :class:`MaskFormerHead`.
        deep_supervision: supervise the earlier decoder layers too.
        others: see :class:`PerPixelBaselineHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        pixel_decoder: nn.Module,
        transformer_decoder: nn.Module,
        transformer_in_feature: str,
        deep_supervision: bool,
        ignore_value: int,
        loss_weight: float = 1.0,
        common_stride: int = 4,
    ) -> None:
        super().__init__(
            input_shape,
            pixel_decoder=pixel_decoder,
            predictor=transformer_decoder,
            ignore_value=ignore_value,
            loss_weight=loss_weight,
            common_stride=common_stride,
        )
        self.transformer_in_feature = transformer_in_feature
        self.deep_supervision = deep_supervision

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        if node.TRANSFORMER_DECODER_NAME != "StandardTransformerDecoder":
            raise ValueError(
                f"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME is {node.TRANSFORMER_DECODER_NAME}; "
                "PerPixelBaselinePlusHead takes StandardTransformerDecoder, which can do without classification."
            )
        arguments = super().from_config(cfg, input_shape)
        del arguments["predictor"]
        decoder = transformer_decoder_from_config(
            cfg, input_shape, num_classes=None, num_queries=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        )
        return arguments | {
            "transformer_decoder": decoder,
            "transformer_in_feature": node.TRANSFORMER_IN_FEATURE,
            "deep_supervision": node.DEEP_SUPERVISION,
        }

    def _logits(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        decoded = self.pixel_decoder({name: features[name] for name in self.in_features})
        memory = select_decoder_input(self.transformer_in_feature, features, decoded)
        prediction = self.predictor(memory, decoded.mask_features)
        supervised = [*prediction.aux, prediction] if self.training and self.deep_supervision else [prediction]
        return [layer.masks.logits().squeeze(2) for layer in supervised]  # one frame
