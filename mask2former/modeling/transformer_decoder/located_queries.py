"""Queries that start from places in the image, where the pixel decoder sees an object: for many small objects."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.transformer_decoder.mask2former_transformer_decoder import (
    MultiScaleMaskedTransformerDecoder,
    Predict,
)
from mask2former.modeling.transformer_decoder.registry import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import PLACES, FactoredMasks, MaskPrediction

_RARE = 0.01  # probability of an object at a place before training, as of RetinaNet's anchors (arXiv 1708.02002, 4.1)
_SHORTEST, _WAVES = 16, 6  # wavelengths of 16, 32, ... 512 cells of the mask features


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

    Args:
        in_channels: channels of the multi-scale features.
        num_located: chosen queries, after the ``num_queries`` learnt ones, which are for stuff and large objects.
        settings: see the base class.
    """

    @configurable
    def __init__(self, in_channels: int, *, num_located: int, **settings: Any) -> None:
        super().__init__(in_channels, **settings)
        channels = self.norm.normalized_shape[0]
        self.num_located = num_located
        self.num_queries += num_located
        classify = nn.Conv2d(channels, self.num_classes, 1)
        nn.init.constant_(cast(Tensor, classify.bias), math.log(_RARE / (1 - _RARE)))
        self.place = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(), classify)
        self.content = nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))
        self.bump = nn.Linear(channels, 1 + _WAVES)
        nn.init.zeros_(self.bump.weight)
        nn.init.ones_(self.bump.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        located = cfg.MODEL.MASK_FORMER.NUM_LOCATED_QUERIES
        if located < 1:
            raise ValueError(
                f"MODEL.MASK_FORMER.NUM_LOCATED_QUERIES is {located}; LocatedQueryDecoder needs at least 1."
            )
        if "PlaceLoss" not in cfg.MODEL.MASK_FORMER.LOSS_TERMS:
            raise ValueError(
                "LocatedQueryDecoder learns its places by PlaceLoss, so MODEL.MASK_FORMER.LOSS_TERMS has to name it; "
                f"found {list(cfg.MODEL.MASK_FORMER.LOSS_TERMS)}. configs/_base_/located.yaml sets both."
            )
        return super().from_config(cfg, in_channels) | {"num_located": located}

    def forward(self, multi_scale_features: list[Tensor], mask_features: Tensor, num_frames: int = 1) -> MaskPrediction:
        """Predict masks, as the base class does; ``extras`` hold the logits of places.

        Raises:
            ValueError: clips; a place belongs to one image.
        """
        if num_frames != 1:
            raise ValueError(
                f"LocatedQueryDecoder takes single images, because a place is in one; found clips of {num_frames} "
                "frames. Train with INPUT.SAMPLING_FRAME_NUM 1, and evaluate with MODEL.MASK_FORMER.TEST.CLIP tracker "
                "or minvis."
            )
        height, width = mask_features.shape[-2:]
        y, x = (_centres(size, size, mask_features.device) for size in (height, width))
        waves = torch.cat([_waves(y).T[:, :, None].expand(-1, -1, width), _waves(x).T[:, None].expand(-1, height, -1)])
        channels = torch.cat([waves, torch.ones_like(waves[:1])]).expand(mask_features.shape[0], -1, -1, -1)
        return super().forward(multi_scale_features, torch.cat([mask_features, channels.to(mask_features.dtype)], 1))

    def _queries(self, levels: list[Tensor], features: Tensor) -> tuple[Tensor, Tensor, Predict]:
        finest = levels[-1]
        height, width = finest.shape[-2:]
        logits = self.place(finest)
        chosen = _best_places(logits.detach(), self.num_located)  # [B, N]
        rows = torch.arange(chosen.shape[0], device=chosen.device)[:, None]
        content = self.content(finest.flatten(2).transpose(1, 2)[rows, chosen])
        encoding = self.position_encoding((height, width), 1, finest.device, content.dtype).flatten(1).T
        learnt, learnt_position, _ = super()._queries(levels, features)
        position = torch.cat([learnt_position.expand(chosen.shape[0], -1, -1), encoding[chosen]], 1)
        # Looked up rather than computed from the index, because exported programs cannot divide by a size.
        y, x = (
            _centres(side, cells, chosen.device)
            for side, cells in zip(finest.shape[-2:], features.shape[-2:], strict=True)
        )
        y, x = y[:, None].expand(height, width).flatten(), x.expand(height, width).flatten()
        waves = torch.cat([_waves(y[chosen]), _waves(x[chosen])], -1)  # [B, N, 4 F]

        def predict_located(x: Tensor, features: Tensor) -> tuple[MaskPrediction, Tensor]:
            prediction, embed = super(LocatedQueryDecoder, self)._predict(x, features)
            bump = self._bump(self.norm(x[:, -chosen.shape[1] :]), waves)
            embed = torch.cat([embed, F.pad(bump, (0, 0, embed.shape[1] - bump.shape[1], 0)).to(embed.dtype)], -1)
            masks = FactoredMasks(embed, features)
            return MaskPrediction(prediction.class_logits, masks, extras={PLACES: logits}), embed

        return torch.cat([learnt, content], 1), position, predict_located

    def _bump(self, x: Tensor, waves: Tensor) -> Tensor:
        """Compute the factor [B, N, 4 F + 1] of bumps from queries [B, N, C] and waves at their places [B, N, 4 F]."""
        level, weights = self.bump(x).split([1, _WAVES], -1)
        weights = F.softplus(weights)
        constant = level - 2 * weights.sum(-1, keepdim=True)
        return torch.cat([waves * weights.repeat(1, 1, 4), constant], -1)


def _centres(count: int, cells: int, device: torch.device) -> Tensor:
    """Compute the centres of ``count`` equal parts of a side of ``cells`` cells: float32 [count], in cells."""
    return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (cells / count)


def _waves(position: Tensor) -> Tensor:
    """Compute cosines, then sines of each wavelength at positions [...], in cells: [..., 2 F]."""
    # Computed where they are needed: a constant would have to be copied to the device, which waits for it.
    wavelengths = _SHORTEST * 2.0 ** torch.arange(_WAVES, device=position.device)
    angle = position[..., None] * (2 * math.pi / wavelengths)
    return torch.cat([angle.cos(), angle.sin()], -1)


def _best_places(logits: Tensor, count: int) -> Tensor:
    """Choose the places of the ``count`` best local maxima of [B, K, H, W]: int64 [B, N], N = min(count, H * W)."""
    peaks = logits == F.max_pool2d(logits, 3, stride=1, padding=1)
    best = logits.where(peaks, logits - 100).amax(1).flatten(1)  # not -inf, so that others follow where peaks are few
    return best.topk(min(count, best.shape[1]), dim=1).indices
