"""The loss that teaches a decoder where objects are, so that it can start queries there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY, LossTerm, mean_over_ranks
from mask2former.structures import PLACES, MaskPrediction, MaskTargets, Matching


@LOSS_TERM_REGISTRY.register()
class PlaceLoss(LossTerm):
    """Focal loss (RetinaNet, arXiv 1708.02002, equation 5) of the places where queries start (``loss_place``).

    One place of each object is right: where its share of the cell, times the probability found there, times a Gaussian
    about the object's centre of mass, is the greatest. So one place is in each object, near its centre if it can be.
    In a clip, each frame's places are taught by the objects that it shows. The loss is divided by the number of
    objects, those of each frame of a clip, averaged over all ranks.

    Args:
        weight: weight of the term.
        alpha, gamma: those of the focal loss.
    """

    @configurable
    def __init__(self, *, weight: float, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.weight, self.alpha, self.gamma = weight, alpha, gamma

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"weight": cfg.MODEL.MASK_FORMER.PLACE_WEIGHT}

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        if PLACES not in layers[-1].extras:
            raise ValueError(
                "MODEL.MASK_FORMER.LOSS_TERMS names PlaceLoss, but the decoder predicts no places; set "
                "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME to LocatedQueryDecoder (kMaX-DeepLab: "
                "MODEL.KMAX_DEEPLAB.TRANS_DEC.NAME to LocatedkMaXDecoder), or leave the term out."
            )
        logits = layers[-1].extras[PLACES].float()
        frames = [frame for target in targets for frame in target.masks.unbind(1)]
        classes = [target.classes for target in targets for _ in range(target.masks.shape[1])]
        right = [_right_places(*of_frame) for of_frame in zip(logits.detach(), classes, frames, strict=True)]
        wanted = torch.stack([places for places, _ in right])
        count = mean_over_ranks(torch.stack([shown.sum() for _, shown in right]).sum(), logits.device)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        missed = (wanted - logits.sigmoid()).abs()
        share = self.alpha * wanted + (1 - self.alpha) * (1 - wanted)
        return {"loss_place": self.weight * (share * missed**self.gamma * loss).sum() / count}


def _right_places(logits: Tensor, classes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mark the right place of each object that a frame shows.

    Args:
        logits: of the frame, [K, H, W].
        classes: [N] int64.
        masks: bool [N, h, w] of the frame; empty where it does not show the object.

    Returns:
        float32 [K, H, W], and which objects the frame shows, bool [N].
    """
    height, width = logits.shape[-2:]
    share = F.adaptive_avg_pool2d(masks.float(), (height, width))  # [N, H, W]
    area = share.sum((1, 2)).clamp(min=1e-6)
    y = torch.arange(height, device=logits.device)[:, None]
    x = torch.arange(width, device=logits.device)
    centre_y, centre_x = (((share * position).sum((1, 2)) / area)[:, None, None] for position in (y, x))
    distance = ((y - centre_y) ** 2 + (x - centre_x) ** 2) / area.clamp(min=1)[:, None, None]
    quality = share * logits[classes].sigmoid() * torch.exp(-4 * distance)
    best = quality.flatten(1).argmax(1) if len(classes) else classes
    shown = masks.flatten(1).any(1)
    # Added, since an object that is not shown may share the place of one that is.
    wanted = torch.zeros_like(logits)
    wanted.flatten(1).index_put_((classes, best), shown.to(wanted.dtype), accumulate=True)
    return wanted.clamp(max=1), shown
