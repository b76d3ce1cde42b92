"""Where post-processing gets its masks from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mask2former.modeling.layers.bilinear_matrix import resizing_rows
from mask2former.structures import Masks, resize_frames

MaskSource = Callable[[Tensor], Tensor]
"""Query indices [n] int64 -> mask logits [n, H, W] at the size of the result; their sigmoid is the probability."""


@dataclass
class ResizedMasks:
    """Mask logits of one image of a batch, brought to the size that is wanted.

    Of masks that exclude each other these are the log-odds of the softmax over all queries, so that whoever asks for
    masks need not know of it.

    As in the published system the masks are resized to the padded input, cropped to the image and resized again,
    all bilinearly. Callable as a :data:`MaskSource`; any rows can be had without the others.

    Bilinear resizing is linear and works on rows and columns apart: columns are resized at the features' few rows, and
    both vertical steps are one matrix, of the rows that are wanted by the features' rows that they lie between.

    Attributes:
        masks: of the whole batch.
        image: index in the batch.
        padded_size: (H, W) of the padded batch.
        image_size: (H, W) of the image in it.
        output_size: (H, W) wanted; None leaves it at the size of the image in the batch.
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
        """Give (H, W) of the masks."""
        return self.output_size or self.image_size

    def __call__(self, queries: Tensor) -> Tensor:
        return self.rows(queries, 0, self.size[0])

    def rows(self, queries: Tensor, first: int, last: int) -> Tensor:
        """Make rows [first, last) of the masks of ``queries`` [n]: float32 [n, last - first, W]."""
        if self.masks.activation == "softmax":
            return self._resized_rows(None, first, last).softmax(0)[queries].logit()
        return self._resized_rows(queries, first, last)

    def _resized_rows(self, queries: Tensor | None, first: int, last: int) -> Tensor:
        outer, top, bottom = resizing_rows(self.image_size[0], self.size[0], first, last)
        inner, top, bottom = resizing_rows(self.masks.size[0], self.padded_size[0], top, bottom)
        features = self.masks.features[self.image][:, self.frame, top:bottom]
        logits = self.masks.combine(self.image, features, queries)[:, None].float()
        height = bottom - top
        padded = resize_frames(logits, (height, self.padded_size[1]))[..., : self.image_size[1]]
        wide = resize_frames(padded, (height, self.size[1]))[:, 0]
        vertical = (outer @ inner).float().to(wide.device)
        with torch.autocast(wide.device.type, enabled=False):
            return vertical @ wide
