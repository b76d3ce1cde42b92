"""Sources of masks for post-processing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mask2former.modeling.layers.bilinear_matrix import resizing_rows
from mask2former.structures import Masks, resize_frames

MaskSource = Callable[[Tensor], Tensor]
"""Query indices [n] int64 -> mask logits [n, H, W] at the size of the result; the sigmoid gives the probability."""


@dataclass
class ResizedMasks:
    """Mask logits of one image of a batch, resized to the size wanted.

    For masks that are a softmax over all queries, these are its log-odds, so that a sigmoid gives the probability in
    both cases.

    As in the published system the masks are resized to the padded input, cropped to the image and resized again, all
    bilinearly. Corners are aligned in both steps if the masks say so. Callable as a :data:`MaskSource`; rows can be
    computed without the others.

    Bilinear resizing is linear and separable: widths are resized at the few rows of the features, and both vertical
    steps are one matrix, from the feature rows needed to the result rows wanted.

    Attributes:
        masks: masks of the whole batch.
        image: index in the batch.
        padded_size: (H, W) of the padded batch.
        image_size: (H, W) of the image in it.
        output_size: (H, W) wanted; None: ``image_size``.
        frame: index of the frame in its clip.
    """

    masks: Masks
    image: int
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int] | None
    frame: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the masks."""
        return self.output_size or self.image_size

    def __call__(self, queries: Tensor) -> Tensor:
        return self.rows(queries, 0, self.size[0])

    def rows(self, queries: Tensor, first: int, last: int) -> Tensor:
        """Compute rows [first, last) of the masks of ``queries`` [n]: float32 [n, last - first, W]."""
        if self.masks.activation == "softmax":
            return self._resized_rows(None, first, last).softmax(0)[queries].logit()
        return self._resized_rows(queries, first, last)

    def _resized_rows(self, queries: Tensor | None, first: int, last: int) -> Tensor:
        aligned = self.masks.align_corners
        outer, top, bottom = resizing_rows(self.image_size[0], self.size[0], first, last, aligned)
        inner, top, bottom = resizing_rows(self.masks.size[0], self.padded_size[0], top, bottom, aligned)
        features = self.masks.features[self.image][:, self.frame, top:bottom]
        logits = self.masks.combine(self.image, features, queries)[:, None].float()
        height = bottom - top
        padded = resize_frames(logits, (height, self.padded_size[1]), aligned)[..., : self.image_size[1]]
        wide = resize_frames(padded, (height, self.size[1]), aligned)[:, 0]
        vertical = (outer @ inner).float().to(wide.device)
        with torch.autocast(wide.device.type, enabled=False):
            return vertical @ wide
