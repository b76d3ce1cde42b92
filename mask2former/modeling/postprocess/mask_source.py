"""Where post-processing gets its masks from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mask2former.modeling.layers.bilinear_matrix import resizing_rows
from mask2former.structures import FactoredMasks, resize_frames

MaskSource = Callable[[Tensor], Tensor]
"""Query indices [n] int64 -> mask logits [n, H, W] at the size of the result."""


@dataclass
class ResizedMasks:
    """Mask logits of one image of a batch, brought to the size that is wanted.

    As in the published system the masks are resized to the padded input, cropped to the image and resized again,
    all bilinearly. Callable as a :data:`MaskSource`; any rows can be had without the others.

    Bilinear resizing is linear and works on rows and columns apart: columns are resized at the features' few rows, and
    both vertical steps are one matrix, of the rows that are wanted by the features' rows that they lie between.

    Attributes:
        masks: of the whole batch, T = 1.
        image: index in the batch.
        padded_size: (H, W) of the padded batch.
        image_size: (H, W) of the image in it.
        output_size: (H, W) wanted; None leaves it at the size of the image in the batch.
    """

    masks: FactoredMasks
    image: int
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int] | None

    @property
    def frame(self) -> tuple[int, int]:
        """(H, W) of the masks that are given."""
        return self.output_size or self.image_size

    def __call__(self, queries: Tensor) -> Tensor:
        return self.rows(queries, 0, self.frame[0])

    def rows(self, queries: Tensor, first: int, last: int) -> Tensor:
        """Rows [first, last) of the masks of ``queries`` [n]: float32 [n, last - first, W]."""
        outer, top, bottom = resizing_rows(self.image_size[0], self.frame[0], first, last)
        inner, top, bottom = resizing_rows(self.masks.size[0], self.padded_size[0], top, bottom)
        logits = self.masks.logits(self.image, queries, rows=slice(top, bottom)).float()
        height = bottom - top
        padded = resize_frames(logits, (height, self.padded_size[1]))[..., : self.image_size[1]]
        wide = resize_frames(padded, (height, self.frame[1]))[:, 0]
        vertical = (outer @ inner).float().to(wide.device)
        with torch.autocast(wide.device.type, enabled=False):
            return vertical @ wide
