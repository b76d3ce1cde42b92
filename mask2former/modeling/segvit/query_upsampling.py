"""The pixel decoder of the shrunk SegViT: queries bring back the resolution that the backbone gave up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.layers.position_table import resized_table
from mask2former.modeling.layers.transformer import DecoderLayer
from mask2former.modeling.pixel_decoder import PixelDecoderOutput
from mask2former.modeling.segvit.layer import init_truncated
from mask2former.modeling.segvit.projection import Projection


@SEM_SEG_HEADS_REGISTRY.register()
class QueryUpsamplingPixelDecoder(nn.Module):
    """Query up-sampling (SegViT, arXiv 2210.05844, section 3.3): a learnt query for each place attends to each feature.

    Gives one level, of the size of the first feature. The table of queries is resized (bicubic) for other grids than
    its own.

    Args:
        input_shape: channels of the backbone features, in the order in which the queries attend to them.
        conv_dim: C.
        grid_side: side of the square grid of the table.
        num_heads, dim_feedforward, dropout, num_layers: of the decoder of each feature.
    """

    checkpoint_layers = (DecoderLayer,)

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        conv_dim: int,
        grid_side: int,
        num_heads: int,
        dim_feedforward: int,
        dropout: float,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.features = list(input_shape)
        self.query_embed = nn.Embedding(grid_side**2, conv_dim)
        self.projections = nn.ModuleList(Projection(input_shape[name].channels, conv_dim) for name in self.features)
        layer: dict[str, Any] = {
            "num_heads": num_heads,
            "dim_feedforward": dim_feedforward,
            "dropout": dropout,
            "pre_norm": False,
        }
        self.decoders = nn.ModuleList(
            nn.ModuleList(DecoderLayer(conv_dim, **layer) for _ in range(num_layers)) for _ in self.features
        )
        init_truncated(self.decoders)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        return {
            "input_shape": input_shape,
            "conv_dim": cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
            "grid_side": cfg.MODEL.VIT.IMAGE_SIZE // cfg.MODEL.VIT.PATCH_SIZE,
            "num_heads": node.NHEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "dropout": node.DROPOUT,
            "num_layers": cfg.MODEL.SEGVIT.LAYERS,
        }

    def forward(self, features: Mapping[str, Tensor]) -> PixelDecoderOutput:
        """Decode ``features``, [B, D, H, W] by name, into one level, which is returned as mask features too."""
        first = features[self.features[0]]
        grid = (first.shape[-2], first.shape[-1])
        x = resized_table(self.query_embed.weight[None], grid).expand(first.shape[0], -1, -1)
        nowhere = x.new_zeros(1)  # the queries themselves say where they are
        for name, projection, decoder in zip(self.features, self.projections, self.decoders, strict=True):
            memory = projection(features[name])
            for layer in cast(nn.ModuleList, decoder):
                x = layer(x, nowhere, memory, memory)
        level = x.transpose(1, 2).unflatten(2, grid)
        return PixelDecoderOutput(level, [level])
