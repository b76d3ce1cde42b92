"""The transformer decoder of MaskFormer: queries attend to the whole of one feature map."""

from __future__ import annotations

from typing import Any

import fvcore.nn.weight_init as weight_init
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from mask2former.modeling.layers.mlp import MLP
from mask2former.modeling.layers.position_encoding import SinePositionEncoding
from mask2former.modeling.layers.transformer import DecoderLayer, EncoderLayer
from mask2former.modeling.transformer_decoder.queries import queries_from_config
from mask2former.modeling.transformer_decoder.registry import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import FactoredMasks, MaskPrediction


@TRANSFORMER_DECODER_REGISTRY.register()
class StandardTransformerDecoder(nn.Module):
    """Transformer decoder of MaskFormer (arXiv 2107.06278, section 3.4), which is DETR's (arXiv 2005.12872).

    Args:
        in_channels: channels of the feature that the queries attend to.
        num_classes: K, without "no object"; None: masks only, with class logits [B, Q, 0] (per-pixel baseline).
        hidden_dim: C of queries and attention.
        num_queries: Q.
        num_heads, dim_feedforward, dropout, pre_norm: settings of the layers.
        num_encoder_layers: layers of self-attention over the feature, before the decoder.
        num_layers: decoder layers; each makes a prediction.
        mask_dim: channels of mask embeddings and mask features.
        enforce_input_project: project the feature by a 1x1 convolution even if it has C channels.
    """

    multi_scale = False
    checkpoint_layers = (EncoderLayer, DecoderLayer)

    @configurable
    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int | None,
        hidden_dim: int,
        num_queries: int,
        num_heads: int,
        dim_feedforward: int,
        dropout: float,
        pre_norm: bool,
        num_encoder_layers: int,
        num_layers: int,
        mask_dim: int,
        enforce_input_project: bool,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_queries = num_classes, num_queries
        layer: dict[str, Any] = {
            "num_heads": num_heads,
            "dim_feedforward": dim_feedforward,
            "dropout": dropout,
            "pre_norm": pre_norm,
        }
        self.position_encoding = SinePositionEncoding(hidden_dim)
        self.input_proj: nn.Module = nn.Identity()
        if in_channels != hidden_dim or enforce_input_project:
            self.input_proj = nn.Conv2d(in_channels, hidden_dim, 1)
            weight_init.c2_xavier_fill(self.input_proj)
        self.encoder_layers = nn.ModuleList(EncoderLayer(hidden_dim, **layer) for _ in range(num_encoder_layers))
        self.encoder_norm = nn.LayerNorm(hidden_dim) if pre_norm else nn.Identity()
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.decoder_layers = nn.ModuleList(DecoderLayer(hidden_dim, **layer) for _ in range(num_layers))
        self.output_norm = nn.LayerNorm(hidden_dim)
        self.class_embed = None if num_classes is None else nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        if node.DEC_LAYERS < 1:
            raise ValueError(
                f"MODEL.MASK_FORMER.DEC_LAYERS is {node.DEC_LAYERS}; MaskFormer predicts after each layer."
            )
        return queries_from_config(cfg, in_channels) | {
            "dropout": node.DROPOUT,
            "num_encoder_layers": node.ENC_LAYERS,
            "num_layers": node.DEC_LAYERS,
        }

    def forward(self, feature: Tensor, mask_features: Tensor, num_frames: int = 1) -> MaskPrediction:
        """Predict masks.

        Args:
            feature: [B * T, in_channels, H_l, W_l].
            mask_features: [B * T, mask_dim, H, W].
            num_frames: T; queries attend to all frames of a clip.
        """
        size = (feature.shape[-2], feature.shape[-1])
        position = self.position_encoding(size, num_frames, feature.device, self.query_embed.weight.dtype)
        position = position.flatten(1).T
        memory = self.input_proj(feature).unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(2).transpose(1, 2)
        for layer in self.encoder_layers:
            memory = layer(memory, position)
        memory = self.encoder_norm(memory)

        key, query_position = memory + position, self.query_embed.weight
        features = mask_features.unflatten(0, (-1, num_frames)).transpose(1, 2)  # [B, mask_dim, T, H, W]
        x = query_position.new_zeros(memory.shape[0], *query_position.shape)
        predictions = []
        for layer in self.decoder_layers:
            x = layer(x, query_position, key, memory)
            normed = self.output_norm(x)
            class_logits = normed[..., :0] if self.class_embed is None else self.class_embed(normed)
            predictions.append(MaskPrediction(class_logits, FactoredMasks(self.mask_embed(normed), features)))
        *earlier, last = predictions
        return MaskPrediction(last.class_logits, last.masks, aux=earlier)
