"""Slots that start from places in the image, as the centres of clusters start from points: for little training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.kmax.decoder import Start, kMaXTransformerDecoder
from mask2former.modeling.layers.places import (
    best_places,
    bump,
    bump_predictor,
    checked_places,
    place_classifier,
    waves_of_grid,
    waves_of_places,
)
from mask2former.modeling.transformer_decoder import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import PLACES, FactoredMasks


@TRANSFORMER_DECODER_REGISTRY.register()
class LocatedkMaXDecoder(kMaXTransformerDecoder):
    """kMaX-DeepLab's decoder with slots chosen from the image, beside the learnt ones.

    What :class:`~mask2former.modeling.transformer_decoder.LocatedQueryDecoder` does for Mask2Former's queries: the best
    places of the finest level that layers read become slots, with the features there as content, and their mask logits
    gain a bump about the place, before pixels are assigned. Not part of the published system.

    Args:
        input_shape, level_channels, last_channels, settings: see the base class.
        num_located: chosen slots, after the learnt ones.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        level_channels: Sequence[int],
        last_channels: int,
        *,
        num_located: int,
        **settings: Any,
    ) -> None:
        super().__init__(input_shape, level_channels, last_channels, **settings)
        finest, channels = level_channels[-1], self._cluster_centers.num_embeddings
        self.num_located = num_located
        self.num_queries += num_located
        self.place = place_classifier(finest, channels, self.num_classes)
        self.content = nn.Sequential(nn.Linear(finest, channels), nn.LayerNorm(channels))
        self.bump = nn.Sequential(nn.LayerNorm(channels), bump_predictor(channels))

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], level_channels: Sequence[int], last_channels: int
    ) -> dict[str, Any]:
        arguments = super().from_config(cfg, input_shape, level_channels, last_channels)
        node = cfg.MODEL.MASK_FORMER
        located = checked_places(node.NUM_LOCATED_QUERIES, node.LOSS_TERMS, cls.__name__)
        return arguments | {"num_located": located}

    def _start(self, levels: Sequence[Tensor], last: Tensor) -> Start:
        finest = F.gelu(levels[-1])
        logits = self.place(finest)
        chosen = best_places(logits.detach(), self.num_located)  # [B, N']
        rows = torch.arange(chosen.shape[0], device=chosen.device)[:, None]
        content = self.content(finest.flatten(2).transpose(1, 2)[rows, chosen]).transpose(1, 2)
        at_places = waves_of_places(chosen, *_positions(finest, last))

        def with_bumps(masks: FactoredMasks, slots: Tensor) -> FactoredMasks:
            predicted = self.bump(slots[:, :, -chosen.shape[1] :].transpose(1, 2))
            bumps = bump(predicted.to(at_places.dtype), at_places)
            bumps = F.pad(bumps, (0, 0, slots.shape[2] - chosen.shape[1], 0))
            waves = waves_of_grid(*_positions(masks.mask_features, last))[:, None]
            waves = waves.expand(bumps.shape[0], -1, -1, -1, -1)
            return replace(
                masks,
                mask_embed=torch.cat([masks.mask_embed, bumps.to(masks.mask_embed.dtype)], -1),
                mask_features=torch.cat([masks.mask_features, waves.to(masks.mask_features.dtype)], 1),
            )

        learnt = super()._start(levels, last).slots
        return Start(torch.cat([learnt, content.to(learnt.dtype)], 2), with_bumps, {PLACES: logits})


def _positions(level: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of a level's rows and columns in cells of the last one, whose corners are the same."""

    def along(axis: int) -> Tensor:
        # Not by linspace, nor by dividing sizes: exported programs do not know them.
        index = torch.arange(level.shape[axis], device=level.device, dtype=torch.float32)
        return index / index.amax(0).clamp(min=1) * (last.shape[axis] - 1)

    return along(-2), along(-1)
