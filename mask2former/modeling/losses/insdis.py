"""Instance discrimination: pixels of a mask have similar features, pixels of different masks do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.losses.pixel_draw import area_of_pixels, draw_pixels
from mask2former.modeling.losses.pq_targets import matched_truth, shares
from mask2former.modeling.losses.slot_masks import mean_of_nonzero, pixel_features, recomputed, require_slots
from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY, LossTerm
from mask2former.structures import MaskPrediction, MaskTargets, Matching
from mask2former.things import things_from_config

_ROWS = 512  # of the pixels' similarities that are in memory at a time


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
        losses = [self._of_layer(layer, index, targets, matchings) for index, layer in enumerate(layers)]
        return {"loss_pixel_insdis": self.weight * torch.stack(losses)}

    def _of_layer(
        self, layer: MaskPrediction, index: int, targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> Tensor:
        dtype = torch.promote_types(layer.masks.features.dtype, torch.float32)
        truths = [matched_truth(*pair, index, dtype) for pair in zip(targets, matchings, strict=True)]
        where = torch.stack(
            [draw_pixels(area_of_pixels(one), ~one.inside, self.count, self.draw_temperature) for one in truths]
        )
        features = pixel_features(layer, where, targets[0].masks.shape[-2:])
        drawn = [truth.shares[:, chosen] for truth, chosen in zip(truths, where, strict=True)]
        pairs = zip(features.unbind(), drawn, strict=True)
        return torch.stack([pairwise_discrimination(*pair, self.temperature) for pair in pairs]).mean()


def pairwise_discrimination(features: Tensor, truth: Tensor, temperature: float) -> Tensor:
    """Compute the loss of an image's drawn pixels.

    Args:
        features: [C, k].
        truth: [M, k], share of each mask in each pixel; pixels in none count as others' opposites alone.
        temperature: of the softmax.
    """
    # The mean similarity to the pixels of one's mask is the similarity to the sum of their features.
    sums = truth.T @ (truth @ features.T)  # [k, C]
    counts = truth.T @ truth.sum(1)  # [k]
    own = (features.T * sums).sum(1) / (temperature * counts.clamp(min=torch.finfo(counts.dtype).tiny))
    scaled = features.T / temperature
    pieces = scaled.split(_ROWS)
    against = torch.cat([recomputed(len(rows) * features.shape[1], _log_sum, rows, features) for rows in pieces])
    return mean_of_nonzero(torch.where(counts > 0, against - own, torch.zeros_like(own)))


def _log_sum(rows: Tensor, features: Tensor) -> Tensor:
    return (rows @ features).logsumexp(1)


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
