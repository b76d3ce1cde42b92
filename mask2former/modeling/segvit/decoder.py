"""The transformer decoders of SegViT: one query for each class, whose mask is its attention map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.segvit.layer import AttentionToMaskLayer, init_truncated
from mask2former.modeling.transformer_decoder import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import FactoredMasks, MaskPrediction


class _AttentionToMask(nn.Module):
    """Common base of both decoders.

    Args:
        in_channels: channels of the levels; has to be ``hidden_dim``, for nothing projects them here.
        num_classes: K, without "no object". Query k answers for class k.
        hidden_dim: C.
        num_heads, dim_feedforward, dropout, num_layers: of each decoder.
        num_levels: number of levels attended to, each by a decoder of its own.

    Raises:
        ValueError: the levels have other channels.
    """

    multi_scale = True
    level_for_each_feature = False
    checkpoint_layers = (AttentionToMaskLayer,)

    @configurable
    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        hidden_dim: int,
        num_heads: int,
        dim_feedforward: int,
        dropout: float,
        num_layers: int,
        num_levels: int,
    ) -> None:
        super().__init__()
        if in_channels != hidden_dim:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.CONVS_DIM is {in_channels} and MODEL.MASK_FORMER.HIDDEN_DIM {hidden_dim}; "
                f"{type(self).__name__} needs them to be equal."
            )
        self.num_classes = self.num_queries = num_classes
        self.query_embed = nn.Embedding(num_classes, hidden_dim)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        init_truncated(self.class_embed)
        layer: dict[str, Any] = {"num_heads": num_heads, "dim_feedforward": dim_feedforward, "dropout": dropout}
        self.decoders = nn.ModuleList(
            nn.ModuleList(AttentionToMaskLayer(hidden_dim, **layer) for _ in range(num_layers))
            for _ in range(num_levels)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        if node.TEST.PANOPTIC_ON or node.TEST.INSTANCE_ON:
            raise ValueError(
                f"{cls.__name__} has one query for each class, which cannot tell objects of a class apart: set "
                "MODEL.MASK_FORMER.TEST.PANOPTIC_ON and INSTANCE_ON False, or take another decoder."
            )
        if cfg.MODEL.SEGVIT.LAYERS < 1:
            raise ValueError(f"MODEL.SEGVIT.LAYERS is {cfg.MODEL.SEGVIT.LAYERS}; a decoder needs at least one layer.")
        return {
            "in_channels": in_channels,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "hidden_dim": node.HIDDEN_DIM,
            "num_heads": node.NHEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "dropout": node.DROPOUT,
            "num_layers": cfg.MODEL.SEGVIT.LAYERS,
            "num_levels": len(cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES) if cls.level_for_each_feature else 1,
        }

    def forward(self, levels: Sequence[Tensor], mask_features: Tensor, num_frames: int = 1) -> MaskPrediction:
        """Predict masks.

        Args:
            levels: [B, C, H_l, W_l] each.
            mask_features: not read; the masks' features are the keys of the attention.
            num_frames: has to be 1.

        Raises:
            ValueError: clips, or another number of levels.
        """
        if num_frames != 1:
            raise ValueError(f"{type(self).__name__} takes single images; found clips of {num_frames} frames.")
        if len(levels) != len(self.decoders):
            raise ValueError(
                f"{type(self).__name__} attends to {len(self.decoders)} levels, but the pixel decoder gives "
                f"{len(levels)}; ProjectingPixelDecoder suits AttentionToMaskCascade, QueryUpsamplingPixelDecoder "
                "AttentionToMaskDecoder."
            )
        return self._predict(self.query_embed.weight.expand(levels[0].shape[0], -1, -1), levels)

    def _predict(self, x: Tensor, levels: Sequence[Tensor]) -> MaskPrediction:
        raise NotImplementedError


@TRANSFORMER_DECODER_REGISTRY.register()
class AttentionToMaskCascade(_AttentionToMask):
    """Decoder of SegViT (arXiv 2210.05844, section 3.2): a stage for each level, whose maps are added up.

    The queries pass from stage to stage. Each stage predicts: classes by a shared layer, and as masks the sum of its
    last layer's map and those of the stages before. The maps' factors lie side by side: features are the keys of all
    stages, embeddings are 0 for stages still to come.
    """

    level_for_each_feature = True

    def _predict(self, x: Tensor, levels: Sequence[Tensor]) -> MaskPrediction:
        finest = max((level.shape[-2:] for level in levels), key=lambda size: size[0] * size[1])
        class_logits, embeds, keys = [], [], []
        for decoder, level in zip(self.decoders, levels, strict=True):
            memory = level.flatten(2).transpose(1, 2)
            for layer in cast(nn.ModuleList, decoder):  # the maps of all but the last layer have no use
                x, embed, key = layer(x, memory)
            class_logits.append(self.class_embed(x))
            embeds.append(embed)
            keys.append(_resized(key.transpose(1, 2).unflatten(2, level.shape[-2:]), finest))
        features = torch.cat(keys, 1)[:, :, None]
        if not self.training:
            return MaskPrediction(class_logits[-1], FactoredMasks(torch.cat(embeds, -1), features))
        zero = torch.zeros_like(embeds[0])
        *earlier, last = (
            MaskPrediction(
                logits,
                FactoredMasks(torch.cat([*embeds[:stage], *[zero] * (len(embeds) - stage)], -1), features),
            )
            for stage, logits in enumerate(class_logits, 1)
        )
        return MaskPrediction(last.class_logits, last.masks, aux=earlier)


@TRANSFORMER_DECODER_REGISTRY.register()
class AttentionToMaskDecoder(_AttentionToMask):
    """Decoder of the shrunk SegViT (arXiv 2210.05844, section 3.3): one level, every layer predicts by its own map."""

    def _predict(self, x: Tensor, levels: Sequence[Tensor]) -> MaskPrediction:
        (level,), (decoder,) = levels, self.decoders
        memory = level.flatten(2).transpose(1, 2)
        class_logits, embeds, keys = [], [], []
        for layer in cast(nn.ModuleList, decoder):
            x, embed, key = layer(x, memory)
            class_logits.append(self.class_embed(x))
            embeds.append(embed)
            keys.append(key.transpose(1, 2).unflatten(2, level.shape[-2:])[:, :, None])
        if not self.training:
            return MaskPrediction(class_logits[-1], FactoredMasks(embeds[-1], keys[-1]))
        features, zero = torch.cat(keys, 1), torch.zeros_like(embeds[0])  # one object, so that losses sample it once
        *earlier, last = (
            MaskPrediction(
                logits,
                FactoredMasks(
                    torch.cat([*[zero] * index, embed, *[zero] * (len(embeds) - 1 - index)], dim=-1), features
                ),
            )
            for index, (logits, embed) in enumerate(zip(class_logits, embeds, strict=True))
        )
        return MaskPrediction(last.class_logits, last.masks, aux=earlier)


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    """Resize [B, C, H, W] bilinearly; maps are linear in their keys, so that this resizes them."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
