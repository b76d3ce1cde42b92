"""Queries that start from places in the image, where the pixel decoder sees an object: for many small objects."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.places import (
    best_places_of_clips,
    bump,
    bump_predictor,
    checked_places,
    place_classifier,
    waves_of_grid,
    waves_of_places,
)
from mask2former.modeling.transformer_decoder.mask2former_transformer_decoder import (
    MultiScaleMaskedTransformerDecoder,
    Predict,
)
from mask2former.modeling.transformer_decoder.registry import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import PLACES, FactoredMasks, MaskPrediction


@TRANSFORMER_DECODER_REGISTRY.register()
class LocatedQueryDecoder(MultiScaleMaskedTransformerDecoder):
    """Mask2Former's decoder with queries chosen from the image, beside the learnt ones.

    A classifier on the finest level of the pixel decoder says where objects are; the best local maxima become queries,
    with the features there as content and the encoding there as position (instance-activation-guided queries: FastInst,
    arXiv 2303.08594, section 3.2). :class:`~mask2former.modeling.losses.places.PlaceLoss` trains it.

    A located query's mask logits gain a bump about its place, ``b + sum_k w_k (cos(u_k dx) + cos(u_k dy) - 2)`` for
    wavelengths of 16 to 512 cells, with b and w_k >= 0 predicted from the query: wide where the short waves weigh
    little. (Relative coordinates, as of CondInst, arXiv 2003.05664, section 3.1, in the form of a product of two
    factors that a half format can hold.) So objects that look alike have different masks from the first layer on.

    A clip's places are classified in each frame, and the best over its frames become queries, one for an object of all
    frames that moves by less than its size: its content is that of the frame where the place is surest, and its bump
    is in all frames. Positions do not tell the frame, so that an image is a clip of one frame.

    Args:
        in_channels: channels of the multi-scale features.
        num_located: chosen queries, after the ``num_queries`` learnt ones, which are for stuff and large objects.
        settings: see the base class.
    """

    sees_clips = True

    @configurable
    def __init__(self, in_channels: int, *, num_located: int, **settings: Any) -> None:
        super().__init__(in_channels, **settings)
        channels = self.norm.normalized_shape[0]
        self.num_located = num_located
        self.num_queries += num_located
        self.place = place_classifier(in_channels, channels, self.num_classes)
        self.content = nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))
        self.bump = bump_predictor(channels)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        located = checked_places(node.NUM_LOCATED_QUERIES, node.LOSS_TERMS, cls.__name__)
        return super().from_config(cfg, in_channels) | {"num_located": located}

    def forward(self, multi_scale_features: list[Tensor], mask_features: Tensor, num_frames: int = 1) -> MaskPrediction:
        """Predict masks, as the base class does; ``extras`` hold the logits of places in each frame."""
        height, width = mask_features.shape[-2:]
        y, x = (_centres(size, size, mask_features.device) for size in (height, width))
        waves = waves_of_grid(y, x).expand(mask_features.shape[0], -1, -1, -1)
        mask_features = torch.cat([mask_features, waves.to(mask_features.dtype)], 1)
        return super().forward(multi_scale_features, mask_features, num_frames)

    def _queries(self, levels: list[Tensor], features: Tensor) -> tuple[Tensor, Tensor, Predict]:
        finest = levels[-1]
        logits = self.place(finest)  # [B * T, K, H, W]
        chosen, frame = best_places_of_clips(logits.detach(), self.num_located, features.shape[2])  # [B, N] each
        rows = torch.arange(chosen.shape[0], device=chosen.device)[:, None]
        by_frame = finest.flatten(2).transpose(1, 2).unflatten(0, (-1, features.shape[2]))
        content = self.content(by_frame[rows, frame, chosen])
        encoding = (
            self.position_encoding((finest.shape[-2], finest.shape[-1]), 1, finest.device, content.dtype).flatten(1).T
        )
        learnt, learnt_position, _ = super()._queries(levels, features)
        position = torch.cat([learnt_position.expand(chosen.shape[0], -1, -1), encoding[chosen]], 1)
        y, x = (
            _centres(side, cells, chosen.device)
            for side, cells in zip(finest.shape[-2:], features.shape[-2:], strict=True)
        )
        at_places = waves_of_places(chosen, y, x)

        def predict_located(x: Tensor, features: Tensor) -> tuple[MaskPrediction, Tensor]:
            prediction, embed = super(LocatedQueryDecoder, self)._predict(x, features)
            bumps = bump(self.bump(self.norm(x[:, -chosen.shape[1] :])), at_places)
            embed = torch.cat([embed, F.pad(bumps, (0, 0, embed.shape[1] - bumps.shape[1], 0)).to(embed.dtype)], -1)
            masks = FactoredMasks(embed, features)
            return MaskPrediction(prediction.class_logits, masks, extras={PLACES: logits}), embed

        return torch.cat([learnt, content], 1), position, predict_located


def _centres(count: int, cells: int, device: torch.device) -> Tensor:
    """Compute the centres of ``count`` equal parts of a side of ``cells`` cells: float32 [count], in cells."""
    return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (cells / count)
