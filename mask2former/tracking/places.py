"""Find coarsely where objects are in a frame: the evidence beside embeddings that two queries mean one object."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mask2former.modeling.postprocess import ResizedMasks


@torch.no_grad()
def coarse_masks(masks: ResizedMasks, queries: Tensor | None = None) -> Tensor:
    """Return the masks of queries at the size of the network's mask features, without padding.

    Args:
        masks: the frame's.
        queries: [n] int64; None: all.

    Returns:
        bool [n, h, w], on the masks' device.
    """
    height, width = (
        -(-side * cells // padded)  # of the image within the padded batch, rounded up
        for side, cells, padded in zip(masks.image_size, masks.masks.size, masks.padded_size, strict=True)
    )
    together = masks.masks.activation == "softmax"  # over all queries
    of_frame = masks.masks.features[masks.image][:, masks.frame, :height, :width]
    logits = masks.masks.combine(masks.image, of_frame, None if together else queries)
    if not together:
        return logits > 0
    inside = logits.float().softmax(0) > 0.5
    return inside if queries is None else inside[queries]


def mask_iou(masks: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of masks [n, P] and [m, P]: float32 [n, m], 0 where both are empty.

    Args:
        masks, others: bool, or float32 of 0 and 1, which needs no conversion.
    """
    one = masks.float()
    other = one if others is masks else others.float()
    common = one @ other.T
    union = one.sum(1)[:, None] + other.sum(1)[None] - common
    return common / union.clamp(min=1)


def without_duplicates(scores: Tensor, masks: Tensor, most: float) -> np.ndarray:
    """Return the rows, ascending, whose masks overlap none of a better row that stays by an IoU above ``most``.

    Args:
        scores: [n].
        masks: [n, P], 0 or 1.
    """
    order = scores.argsort(descending=True, stable=True).numpy()
    above = (mask_iou(masks, masks) > most).numpy()[np.ix_(order, order)]
    stays = np.ones(len(order), bool)
    for place in range(len(order)):
        if stays[place]:
            stays[place + 1 :] &= ~above[place, place + 1 :]
    return np.sort(order[stays])
