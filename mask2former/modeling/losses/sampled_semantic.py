"""Losses of the auxiliary semantic branch of kMaX-DeepLab and MaX-DeepLab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.layers.precision import at_least_float32
from mask2former.modeling.losses.insdis import is_thing
from mask2former.modeling.losses.pixel_draw import area_of_pixels, draw_pixels
from mask2former.modeling.losses.pq_targets import GridTargets, labels_of, matched_truth
from mask2former.modeling.losses.slot_masks import mean_of_nonzero
from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY, LossTerm
from mask2former.structures import SEMANTIC, MaskPrediction, MaskTargets, Matching
from mask2former.things import things_from_config


@LOSS_TERM_REGISTRY.register()
class SampledSemanticLoss(LossTerm):
    """Cross-entropy of the auxiliary semantic branch at drawn pixels (``loss_aux_semantic``).

    Args:
        weight: weight of the term.
        count: pixels drawn of an image; 0: all.
        draw_temperature: the greater, the rather pixels of small masks are drawn.
    """

    @configurable
    def __init__(self, *, weight: float = 1.0, count: int = 4096, draw_temperature: float = 2.0) -> None:
        super().__init__()
        self.weight, self.count, self.draw_temperature = weight, count, draw_temperature

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.KMAX_DEEPLAB
        return {
            "weight": node.AUX_SEMANTIC_WEIGHT,
            "count": node.AUX_SEMANTIC_SAMPLE_K,
            "draw_temperature": node.AUX_SEMANTIC_TEMPERATURE,
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        logits = _semantic_logits(layers, type(self).__name__)
        losses = []
        for of_image, whole, matching in zip(logits.unbind(), targets, matchings, strict=True):
            predicted, target = _on_one_grid(of_image, whole)
            predicted, labels = predicted.flatten(1), labels_of(target)
            if self.count:
                truth = matched_truth(target, matching, -1, predicted.dtype)
                chosen = draw_pixels(area_of_pixels(truth), ~truth.inside, self.count, self.draw_temperature)
                predicted, labels = predicted[:, chosen], labels[chosen]
            losses.append(mean_of_nonzero(_cross_entropy(predicted, labels)))
        return {"loss_aux_semantic": self.weight * torch.stack(losses).mean()}


@LOSS_TERM_REGISTRY.register()
class SemanticLoss(LossTerm):
    """Cross-entropy of the auxiliary semantic branch at all pixels that have a class (``loss_aux_semantic``).

    Args:
        weight: weight of the term.
        things: classes of countable objects.
        small_weight: weight of the pixels of small things; the mean is not divided by weights.
        small_area: things of a smaller area are small, in pixels of the padded image.
    """

    @configurable
    def __init__(
        self, *, weight: float = 1.0, things: Sequence[int], small_weight: float = 1.0, small_area: int = 4096
    ) -> None:
        super().__init__()
        self.weight, self.things = weight, sorted(things)
        self.small_weight, self.small_area = small_weight, small_area

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "weight": cfg.MODEL.KMAX_DEEPLAB.AUX_SEMANTIC_WEIGHT,
            "things": sorted(things_from_config(cfg, f"{cls.__name__} in MODEL.MASK_FORMER.LOSS_TERMS")),
            "small_weight": cfg.MODEL.PQ.SMALL_THING_WEIGHT,
            "small_area": cfg.MODEL.PQ.SMALL_THING_AREA,
        }

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        logits = _semantic_logits(layers, type(self).__name__)
        losses = []
        for of_image, whole in zip(logits.unbind(), targets, strict=True):
            predicted, target = _on_one_grid(of_image, whole)
            terms = _cross_entropy(predicted.flatten(1), labels_of(target))
            losses.append(mean_of_nonzero(terms * self._weights(target, terms.dtype)))
        return {"loss_aux_semantic": self.weight * torch.stack(losses).mean()}

    def _weights(self, target: MaskTargets, dtype: torch.dtype) -> Tensor:
        """Return the weight of each pixel, [P]."""
        masks = target.masks.flatten(1)
        areas = target.areas if isinstance(target, GridTargets) else None
        areas = masks.sum(1) if areas is None else areas
        small = masks[is_thing(target, self.things) & (areas < self.small_area)].any(0)
        return 1 + (self.small_weight - 1) * small.to(dtype)


def _semantic_logits(layers: Sequence[MaskPrediction], who: str) -> Tensor:
    """Return the last prediction's semantic logits [B, K', h, w], float32 or wider."""
    if SEMANTIC not in layers[-1].extras:
        raise ValueError(
            f"MODEL.MASK_FORMER.LOSS_TERMS names {who}, but the network has no auxiliary semantic branch (it gives no "
            f"extra output {SEMANTIC!r}); leave the term out."
        )
    return at_least_float32(layers[-1].extras[SEMANTIC])


def _on_one_grid(logits: Tensor, target: MaskTargets) -> tuple[Tensor, MaskTargets]:
    """Bring logits [K', h, w] and targets to one grid.

    Where the targets have a multiple of the logits' pixels, every so many of them are taken; or else the logits are
    resized with aligned corners.
    """
    wanted, found = tuple(target.masks.shape[-2:]), tuple(logits.shape[-2:])
    if wanted == found:
        return logits, target
    step = round((max(wanted) - 1) / max(max(found) - 1, 1))
    if step > 1 and found == tuple(-(-side // step) for side in wanted):
        return logits, _strided(target, step)
    return F.interpolate(logits[None], size=wanted, mode="bilinear", align_corners=True)[0], target


def _strided(target: MaskTargets, step: int) -> GridTargets:
    """Take every ``step``-th pixel; all masks stay, so that matchings hold, and with them their areas in the input."""
    masks, void, semantic = (
        None if values is None else values[..., ::step, ::step]
        for values in (target.masks, target.void, target.semantic)
    )
    assert masks is not None
    return GridTargets(target.classes, masks, void, semantic, getattr(target, "areas", None))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of each pixel, [P], from logits [K', P]; 0 where the label is -1."""
    return F.cross_entropy(logits.T, labels, ignore_index=-1, reduction="none")
