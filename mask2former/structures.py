"""The contract between decoders, losses and post-processing.

Shapes are written with these letters throughout the package:

====  =================================================
B     images (or clips) in a batch
T     frames of a clip; an image is a clip with T = 1
Q     queries
K     classes, without "no object"
C     channels
H, W  height and width in pixels
P     sampled points
N     target masks of one image
M     matched (query, target) pairs of a whole batch
====  =================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class MaskTargets:
    """What one image (or clip) holds.

    Attributes:
        classes: [N] int64, in [0, K).
        masks: [N, T, H, W] bool, over the padded input.
    """

    classes: Tensor
    masks: Tensor

    def __post_init__(self) -> None:
        if self.classes.ndim != 1 or self.masks.ndim != 4 or len(self.classes) != len(self.masks):
            raise ValueError(
                f"MaskTargets needs classes [N] and masks [N, T, H, W]; "
                f"found {tuple(self.classes.shape)} and {tuple(self.masks.shape)}."
            )

    def __len__(self) -> int:
        return len(self.classes)


@dataclass
class FactoredMasks:
    """Mask logits kept as the two factors of their product, multiplied only where somebody looks.

    ``logits[b, q, t, y, x] = sum_c mask_embed[b, q, c] * mask_features[b, c, t, y, x]`` (paper, section 3.1).
    Bilinear interpolation is linear too, so it commutes with this product: features are resized or sampled first,
    which costs C channels once instead of Q masks for each prediction.

    Attributes:
        mask_embed: [B, Q, C].
        mask_features: [B, C, T, H, W].
    """

    mask_embed: Tensor
    mask_features: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the features."""
        return self.mask_features.shape[-2], self.mask_features.shape[-1]

    def logits(self, image: int | None = None, queries: Tensor | None = None, rows: slice | None = None) -> Tensor:
        """Logits at the features' own size.

        Args:
            image: this image alone; all when None.
            queries: [n] int64, these queries alone (needs ``image``); all when None.
            rows: these rows of pixels alone (needs ``image``); all when None.

        Returns:
            [B, Q, T, H, W], or [n, T, H, W] of one image.
        """
        if image is None:
            if queries is not None or rows is not None:
                raise ValueError(
                    "FactoredMasks.logits: `queries` and `rows` are those of one image, so `image` has to be given."
                )
            return torch.einsum("bqc,bcthw->bqthw", self.mask_embed, self.mask_features)
        embed = self.mask_embed[image] if queries is None else self.mask_embed[image, queries]
        features = self.mask_features[image] if rows is None else self.mask_features[image, :, :, rows]
        return torch.einsum("nc,cthw->nthw", embed, features)


@dataclass
class MaskPrediction:
    """A set of Q (class distribution, mask) pairs for each image.

    Attributes:
        class_logits: [B, Q, K + 1]; the last column is "no object".
        masks: the masks' logits.
        aux: the same from earlier decoder layers, first layer first; supervised, not used at inference.
    """

    class_logits: Tensor
    masks: FactoredMasks
    aux: list[MaskPrediction] = field(default_factory=list)


def resize_frames(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Resize [N, T, H, W] bilinearly (``align_corners=False``) to [N, T, *size]; N and T are left as they are."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return F.interpolate(masks, size=tuple(size), mode="bilinear", align_corners=False)
