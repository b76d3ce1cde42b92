"""Instance discrimination: pixels of a mask have similar features, pixels of different masks do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.losses.pixel_draw import area_of_pixels, draw_pixels
from mask2former.modeling.losses.pq_targets import batch_truths, shares
from mask2former.modeling.losses.slot_masks import mean_of_nonzero, pixel_features, recomputed, require_slots, wide_type
from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY, LossTerm
from mask2former.structures import MaskPrediction, MaskTargets, Matching
from mask2former.things import things_from_config

_ROWS, _NUMBERS = 512, 2**21  # of the pixels' similarities that are in memory at a time, at most


@LOSS_TERM_REGISTRY.register()
class PairwiseInsDisLoss(LossTerm):
    """Instance discrimination between drawn pixels (kMaX-DeepLab; ``loss_pixel_insdis``).

    For each pixel, cross-entropy between its softmax over all drawn pixels, itself included, and the even distribution
    over those of its mask. The similarities of all pairs are made some rows at a time, and again in the backward pass.

    Args:
        weight: weight of the term.
        count: pixels drawn of an image, for each layer.
        draw_temperature: the greater, the rather pixels of small masks are drawn.
        temperature: of the softmax.
    """

    @configurable
    def __init__(
        self, *, weight: float = 1.0, count: int = 4096, draw_temperature: float = 1.5, temperature: float = 0.3
    ) -> None:
        super().__init__()
        self.weight, self.count = weight, count
        self.draw_temperature, self.temperature = draw_temperature, temperature

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.KMAX_DEEPLAB
        return {
            "weight": node.INSDIS_WEIGHT,
            "count": node.PIXEL_INSDIS_SAMPLE_K,
            "draw_temperature": node.PIXEL_INSDIS_TEMPERATURE,
            "temperature": cfg.MODEL.PQ.INSDIS_TEMPERATURE,
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        require_slots(layers, type(self).__name__)
        truths = batch_truths(targets, matchings, len(layers), wide_type(layers[-1]))
        losses: list[Tensor] = []
        areas: dict[int, Tensor] = {}  # by identity: layers of one matching share their truth
        for layer, truth in zip(layers, truths, strict=True):
            if id(truth) not in areas:
                areas[id(truth)] = area_of_pixels(truth)
            where = draw_pixels(areas[id(truth)], ~truth.inside, self.count, self.draw_temperature)
            features = pixel_features(layer, where, targets[0].masks.shape[-2:])
            drawn = truth.shares.gather(2, where[:, None].expand(-1, truth.shares.shape[1], -1))
            losses.append(pairwise_discrimination(features, drawn, self.temperature).mean())
        return {"loss_pixel_insdis": self.weight * torch.stack(losses)}


def pairwise_discrimination(features: Tensor, truth: Tensor, temperature: float) -> Tensor:
    """Compute the losses of images' drawn pixels, [B].

    Args:
        features: [B, C, k].
        truth: [B, M, k], share of each mask in each pixel; pixels in none count as others' opposites alone.
        temperature: of the softmax.
    """
    # The mean similarity to the pixels of one's mask is the similarity to the sum of their features.
    sums = truth.mT @ (truth @ features.mT)  # [B, k, C]
    counts = (truth * truth.sum(-1, keepdim=True)).sum(-2)  # [B, k]
    own = (features.mT * sums).sum(-1) / (temperature * counts.clamp(min=torch.finfo(counts.dtype).tiny))
    scaled, across = features.mT / temperature, features.shape[0] * features.shape[2]
    pieces = scaled.split(max(min(_ROWS, _NUMBERS // across), 1), 1)
    against = torch.cat([recomputed(rows.shape[1] * across, _log_sum, rows, features) for rows in pieces], 1)
    return mean_of_nonzero(torch.where(counts > 0, against - own, torch.zeros_like(own)))


def _log_sum(rows: Tensor, features: Tensor) -> Tensor:
    return (rows @ features).logsumexp(-1)


@LOSS_TERM_REGISTRY.register()
class InsDisLoss(LossTerm):
    """Instance discrimination between pixels and masks' means (MaX-DeepLab; ``loss_pixel_insdis``).

    For each pixel of a thing, cross-entropy of its mask in the softmax over the similarities to all masks' mean
    features, of unit length.

    Args:
        weight: weight of the term.
        things: classes of countable objects.
        temperature: of the softmax.
    """

    @configurable
    def __init__(self, *, weight: float = 1.0, things: Sequence[int], temperature: float = 0.3) -> None:
        super().__init__()
        self.weight, self.things, self.temperature = weight, sorted(things), temperature

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "weight": cfg.MODEL.KMAX_DEEPLAB.INSDIS_WEIGHT,
            "things": sorted(things_from_config(cfg, f"{cls.__name__} in MODEL.MASK_FORMER.LOSS_TERMS")),
            "temperature": cfg.MODEL.PQ.INSDIS_TEMPERATURE,
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        require_slots(layers, type(self).__name__)
        losses = []
        for layer in layers:
            size = targets[0].masks.shape[-2:]
            everywhere = torch.arange(size.numel(), device=layer.masks.features.device)
            features = pixel_features(layer, everywhere.expand(len(targets), -1), size).unbind()
            of_images = [self._of_image(*pair) for pair in zip(features, targets, strict=True)]
            losses.append(torch.stack(of_images).mean())
        return {"loss_pixel_insdis": self.weight * torch.stack(losses)}

    def _of_image(self, features: Tensor, target: MaskTargets) -> Tensor:
        """Compute the loss of an image from features [C, P]."""
        if not len(target):
            return 0 * features.sum()
        truth, things = shares(target, features.dtype), is_thing(target, self.things)
        return recomputed(truth.numel(), discrimination, features, truth, things, self.temperature)


def discrimination(features: Tensor, truth: Tensor, things: Tensor, temperature: float) -> Tensor:
    """Compute the loss of an image.

    Args:
        features: [C, P].
        truth: [M, P], share of each mask in each pixel.
        things: [M] bool.
        temperature: of the softmax.
    """
    means = F.normalize(truth @ features.T, dim=1)
    missed = -(means @ features / temperature).log_softmax(0)
    return mean_of_nonzero((truth * things[:, None] * missed).sum(0))


def is_thing(target: MaskTargets, things: Sequence[int]) -> Tensor:
    """Tell which targets are of the classes ``things``, bool [N]."""
    return torch.isin(target.classes, torch.tensor(things, dtype=torch.int64, device=target.classes.device))
