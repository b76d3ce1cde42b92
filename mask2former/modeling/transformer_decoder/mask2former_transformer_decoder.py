"""The transformer decoder of Mask2Former: queries attend only to pixels inside the mask that they last predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from mask2former.modeling.layers.mlp import MLP
from mask2former.modeling.layers.position_encoding import SinePositionEncoding
from mask2former.modeling.layers.residual import CrossAttention, FeedForward, SelfAttention
from mask2former.modeling.transformer_decoder.queries import queries_from_config
from mask2former.modeling.transformer_decoder.registry import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import FactoredMasks, MaskPrediction, resize_frames

Predict = Callable[[Tensor, Tensor], tuple[MaskPrediction, Tensor]]
"""(queries [B, Q, C], mask features [B, mask_dim, T, H, W]) -> prediction, mask embeddings [B, Q, mask_dim]."""


class MaskedDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward, in this order and without dropout (section 3.2.2)."""

    def __init__(self, channels: int, *, num_heads: int, dim_feedforward: int, pre_norm: bool) -> None:
        super().__init__()
        self.cross_attention = CrossAttention(channels, num_heads, pre_norm=pre_norm)
        self.self_attention = SelfAttention(channels, num_heads, pre_norm=pre_norm)
        self.feed_forward = FeedForward(channels, dim_feedforward, pre_norm=pre_norm)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
        """Transform x [B, Q, C]; position [1, Q, C], key and value [B, S, C], attn_mask bool [B, 1, Q, S]."""
        x = self.cross_attention(x, position, key, value, attn_mask)
        x = self.self_attention(x, position)
        return self.feed_forward(x)


@TRANSFORMER_DECODER_REGISTRY.register()
class MultiScaleMaskedTransformerDecoder(nn.Module):
    """Masked-attention transformer decoder (Mask2Former, arXiv 2112.01527, section 3.2), for images and clips.

    The first prediction comes from the learnt query features, the others from the layers. Layer i attends to feature
    level i mod ``num_levels``, coarse to fine, inside the mask of the previous prediction.

    Args:
        in_channels: channels of the multi-scale features.
        num_classes: K, without "no object".
        hidden_dim: C of queries and attention.
        num_queries: Q.
        num_heads, dim_feedforward, num_layers, pre_norm: settings of the layers.
        mask_dim: channels of mask embeddings and mask features.
        enforce_input_project: project the features by a 1x1 convolution even if they have C channels.
        num_levels: feature levels, attended to in turn.
        encode_time: encode the frame in the position encoding (clips).
    """

    multi_scale = True
    sees_clips = False
    """Tell whether a model of clips (``VideoMaskFormer``) gives it all frames of a film at once."""
    checkpoint_layers = (MaskedDecoderLayer,)

    @configurable
    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        hidden_dim: int,
        num_queries: int,
        num_heads: int,
        dim_feedforward: int,
        num_layers: int,
        pre_norm: bool,
        mask_dim: int,
        enforce_input_project: bool,
        num_levels: int = 3,
        encode_time: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_queries = num_classes, num_queries
        self.position_encoding = SinePositionEncoding(hidden_dim, with_time=encode_time)
        self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.level_embed = nn.Embedding(num_levels, hidden_dim)
        self.input_proj = nn.ModuleList(
            nn.Conv2d(in_channels, hidden_dim, 1)
            if in_channels != hidden_dim or enforce_input_project
            else nn.Identity()
            for _ in range(num_levels)
        )
        for projection in self.input_proj:
            if isinstance(projection, nn.Conv2d):
                weight_init.c2_xavier_fill(projection)
        self.layers = nn.ModuleList(
            MaskedDecoderLayer(hidden_dim, num_heads=num_heads, dim_feedforward=dim_feedforward, pre_norm=pre_norm)
            for _ in range(num_layers)
        )
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.norm = nn.LayerNorm(hidden_dim)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        if node.DEC_LAYERS < 2:
            raise ValueError(
                f"MODEL.MASK_FORMER.DEC_LAYERS is {node.DEC_LAYERS}; it counts the prediction of the learnt queries "
                "and one for each layer, so it has to be at least 2."
            )
        return queries_from_config(cfg, in_channels) | {"num_layers": node.DEC_LAYERS - 1}

    def forward(self, multi_scale_features: list[Tensor], mask_features: Tensor, num_frames: int = 1) -> MaskPrediction:
        """Predict masks.

        Args:
            multi_scale_features: [B * T, in_channels, H_l, W_l] of each level, coarse to fine; only the first
                ``num_levels`` are used.
            mask_features: [B * T, mask_dim, H, W].
            num_frames: T.

        Raises:
            ValueError: there are fewer levels.
        """
        levels = multi_scale_features[: len(self.input_proj)]
        if len(levels) < len(self.input_proj):
            raise ValueError(f"The decoder attends to {len(self.input_proj)} levels, found {len(levels)}.")
        memory = [self._flatten(level, features, num_frames) for level, features in enumerate(levels)]
        by_frame = mask_features.unflatten(0, (-1, num_frames))
        features = by_frame.transpose(1, 2)  # [B, mask_dim, T, H, W]
        # Attention masks need logits at each level's size: resizing the features once serves all layers.
        with torch.no_grad():
            level_features = [
                resize_frames(by_frame.flatten(1, 2), x.shape[-2:]).unflatten(1, by_frame.shape[1:3]) for x in levels
            ]

        x, position, predict = self._queries(levels, features)
        prediction, mask_embed = predict(x, features)
        earlier = []
        for index, layer in enumerate(self.layers):
            level = index % len(levels)
            x = layer(x, position, *memory[level], _attention_mask(mask_embed, level_features[level]))
            earlier.append(prediction)
            prediction, mask_embed = predict(x, features)
        return replace(prediction, aux=earlier)

    def _queries(self, levels: list[Tensor], features: Tensor) -> tuple[Tensor, Tensor, Predict]:
        """Return the queries [B, Q, C], their positions [1 or B, Q, C], and what predicts from them."""
        return self.query_feat.weight.expand(features.shape[0], -1, -1), self.query_embed.weight[None], self._predict

    def _flatten(self, level: int, features: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Turn [B * T, in_channels, H, W] into keys (with position) and values (without), each [B, T * H * W, C]."""
        projected = self.input_proj[level](features).unflatten(0, (-1, num_frames))
        value = projected.transpose(1, 2).flatten(2).transpose(1, 2) + self.level_embed.weight[level]
        size = (features.shape[-2], features.shape[-1])
        position = self.position_encoding(size, num_frames, features.device, self.level_embed.weight.dtype)
        return value + position.flatten(1).T, value

    def _predict(self, x: Tensor, features: Tensor) -> tuple[MaskPrediction, Tensor]:
        """Predict; return also the mask embeddings [B, Q, mask_dim]."""
        x = self.norm(x)
        mask_embed = self.mask_embed(x)
        return MaskPrediction(self.class_embed(x), FactoredMasks(mask_embed, features)), mask_embed


@torch.no_grad()
def _attention_mask(mask_embed: Tensor, features: Tensor) -> Tensor:
    """Compute where each query may attend, inside its mask (equation 2): [B, 1, Q, T * H * W] bool.

    A query whose mask is empty attends everywhere; otherwise its softmax would have no terms.

    Args:
        mask_embed: [B, Q, C].
        features: [B, T, C, H, W], at the size of the level.
    """
    inside = torch.einsum("bqc,btchw->bqthw", mask_embed, features).flatten(2) >= 0  # sigmoid >= 0.5
    return (inside | ~inside.any(dim=-1, keepdim=True)).unsqueeze(1)
