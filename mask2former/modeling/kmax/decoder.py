"""The transformer decoder of kMaX-DeepLab (arXiv 2207.04044): slots as centres of clusters of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from mask2former.modeling.kmax.layer import KMeansLayer, ShapeMasks, as_they_are
from mask2former.modeling.kmax.predictor import Predictor, start_mask_logits
from mask2former.modeling.kmax.semantic import CoarseSemanticHead, SemanticDecoder
from mask2former.modeling.layers.batch_norm import truncated_normal_
from mask2former.modeling.layers.conv_bn import ConvBN
from mask2former.modeling.transformer_decoder import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import SEMANTIC, FactoredMasks, MaskPrediction


class Start(NamedTuple):
    """Hold what the first layer begins with.

    Attributes:
        slots: [B, C, N].
        shape: changes the masks that slots predict, in every layer.
        extras: outputs of the choice, for loss terms.
    """

    slots: Tensor
    shape: ShapeMasks
    extras: dict[str, Tensor]


@TRANSFORMER_DECODER_REGISTRY.register()
class kMaXTransformerDecoder(nn.Module):
    """Learnt cluster centres that pass k-means layers, each of which predicts; then a last prediction at stride 4.

    Args:
        input_shape: channels of the backbone's features, for the auxiliary semantic branch.
        level_channels: channels of the pixel decoder's levels that layers read.
        last_channels: channels of its last level.
        depths: layers at each level, from the coarsest on.
        num_classes: K, without "no object".
        num_queries: N, the slots.
        channels: C of the slots.
        mask_dim, feed_forward, num_heads, drop_path: see :class:`KMeansLayer`.
        semantic_decoder: the auxiliary branch is a decoder to stride 4; False: a head on "res5".
        mask_scale: deviation of mask logits at the beginning of a training.

    Raises:
        ValueError: channels that cannot be divided among the heads.
    """

    multi_scale = True
    checkpoint_layers = (KMeansLayer,)

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        level_channels: Sequence[int],
        last_channels: int,
        *,
        depths: Sequence[int],
        num_classes: int,
        num_queries: int,
        channels: int = 256,
        mask_dim: int = 128,
        feed_forward: int = 2048,
        num_heads: int = 8,
        drop_path: float = 0.0,
        semantic_decoder: bool = True,
        mask_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if channels % (2 * num_heads):
            raise ValueError(
                f"MODEL.KMAX_DEEPLAB.TRANS_DEC: HIDDEN_DIM is {channels}; it has to be a multiple of twice NUM_HEADS, "
                f"{2 * num_heads}."
            )
        self.num_classes, self.num_queries = num_classes, num_queries
        self._kmax_transformer_layers = nn.ModuleList(
            KMeansLayer(
                count,
                channels=channels,
                num_classes=num_classes,
                mask_dim=mask_dim,
                feed_forward=feed_forward,
                num_heads=num_heads,
                drop_path=drop_path,
            )
            for count, depth in zip(level_channels, depths, strict=True)
            for _ in range(depth)
        )
        self.levels = [level for level, depth in enumerate(depths) for _ in range(depth)]
        self._cluster_centers = nn.Embedding(channels, num_queries)
        truncated_normal_(self._cluster_centers.weight, 1.0)
        self._class_embedding_projection = ConvBN(channels, channels, active=True, lines=True)
        self._mask_embedding_projection = ConvBN(channels, channels, active=True, lines=True)
        self._predcitor = Predictor(last_channels, channels, mask_dim, num_classes)  # the published spelling
        semantic = SemanticDecoder if semantic_decoder else CoarseSemanticHead
        self._auxiliary_semantic_predictor = semantic(input_shape, num_classes)
        start_mask_logits(self, mask_scale)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], level_channels: Sequence[int], last_channels: int
    ) -> dict[str, Any]:
        node = cfg.MODEL.KMAX_DEEPLAB
        return {
            "input_shape": input_shape,
            "level_channels": level_channels,
            "last_channels": last_channels,
            "depths": node.TRANS_DEC.DEC_LAYERS,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "num_queries": node.TRANS_DEC.NUM_OBJECT_QUERIES,
            "channels": node.TRANS_DEC.HIDDEN_DIM,
            "mask_dim": node.TRANS_DEC.MASK_DIM,
            "feed_forward": node.TRANS_DEC.DIM_FEEDFORWARD,
            "num_heads": node.TRANS_DEC.NUM_HEADS,
            "drop_path": node.TRANS_DEC.DROP_PATH_PROB,
            "semantic_decoder": node.USE_AUX_SEMANTIC_DECODER,
            "mask_scale": node.TRANS_DEC.MASK_SCALE,
        }

    def forward(
        self, levels: Sequence[Tensor], last: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> MaskPrediction:
        """Predict.

        Args:
            levels: the pixel decoder's levels that layers read, [B, c, h, w] each, coarse to fine.
            last: its last level.
            features: the backbone's, where losses are wanted: then the layers' predictions and the semantic branch's
                logits are given too.
        """
        slots, shape, extras = self._start(levels, last)
        earlier = []
        for level, layer in zip(self.levels, self._kmax_transformer_layers, strict=True):
            assert isinstance(layer, KMeansLayer)
            slots, embed, pixels, embedding = layer(levels[level], slots, shape)
            if features is not None:
                masks = FactoredMasks(embed, pixels, activation="softmax", align_corners=True)
                earlier.append(layer.predictor.predict(masks, embedding))
        masks = shape(self._predcitor.masks(last, self._mask_embedding_projection(slots)), slots)
        prediction = replace(self._predcitor.predict(masks, self._class_embedding_projection(slots)), aux=earlier)
        prediction.extras.update(extras)
        if features is not None:
            prediction.extras[SEMANTIC] = self._auxiliary_semantic_predictor(features)
        return prediction

    def _start(self, levels: Sequence[Tensor], last: Tensor) -> Start:
        """Make what the first layer begins with; a decoder whose slots depend on the image has its own."""
        return Start(self._cluster_centers.weight.expand(last.shape[0], -1, -1), as_they_are, {})
