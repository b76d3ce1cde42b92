"""Inputs of a pixel decoder's deformable attention: raw, as its linear layers return them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

HEADS, CHANNELS, POINTS = 8, 32, 4
STRIDES = (32, 16, 8)
LOCATIONS = ("near", "anywhere")


@dataclass(frozen=True)
class Inputs:
    """Inputs for B images with S pixels in all levels, each of which is a query.

    Attributes:
        value: [B, S, heads, C] values to sample.
        shapes: (H, W) of each level.
        reference: [1, S, 1, 2] pixel centres (x, y) in [0, 1], float32.
        offsets: [B, S, heads, L, P, 2] in pixels of the level.
        logits: [B, S, heads, L, P], to be softmaxed over L * P.
    """

    value: Tensor
    shapes: list[tuple[int, int]]
    reference: Tensor
    offsets: Tensor
    logits: Tensor

    def leaves(self) -> list[Tensor]:
        return [self.value, self.offsets, self.logits]


@dataclass(frozen=True)
class Case:
    """A size of images, a dtype, and where the samples lie.

    Attributes:
        size: images, as ``HxW`` or ``BxHxW`` in pixels; the levels have strides 32, 16 and 8.
        locations: ``near``: every head samples in its own direction, point p at a distance of p + 1 pixels, as at the
            start of training, plus noise of one pixel; ``anywhere``: uniformly over the level.
    """

    size: str
    dtype: str
    locations: str

    @property
    def batch(self) -> int:
        return parse_size(self.size)[0]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        _, height, width = parse_size(self.size)
        return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in STRIDES]

    def inputs(self, device: torch.device, requires_grad: bool = False) -> Inputs:
        shapes, dtype = self.shapes, getattr(torch, self.dtype)
        generator = torch.Generator().manual_seed(0)
        reference = torch.cat([_centres(*shape) for shape in shapes])
        pixels = len(reference)
        samples = (self.batch, pixels, HEADS, len(shapes), POINTS)
        if self.locations == "near":
            angle = torch.arange(HEADS) * (2 * math.pi / HEADS)
            direction = torch.stack([angle.cos(), angle.sin()], -1)
            direction = direction / direction.abs().amax(-1, keepdim=True)
            offsets = direction[:, None, None, :] * torch.arange(1, POINTS + 1)[:, None]
            offsets = offsets + torch.randn(*samples, 2, generator=generator)
        else:
            level_sizes = torch.tensor([(width, height) for height, width in shapes])[:, None]
            places = torch.rand(*samples, 2, generator=generator)
            offsets = (places - reference[:, None, None, None]) * level_sizes
        value = torch.randn(self.batch, pixels, HEADS, CHANNELS, generator=generator)
        logits = torch.randn(samples, generator=generator)
        value, offsets, logits = (x.to(device, dtype).requires_grad_(requires_grad) for x in (value, offsets, logits))
        return Inputs(value, shapes, reference[None, :, None].to(device), offsets, logits)

    def work(self, training: bool) -> tuple[int, int]:
        """Return the least number of bytes to move, and the number of multiply-adds.

        Forward: inputs are read and the result is written once; four pixels of C channels are weighted for each sample.
        Training also reads the gradient of the result and writes those of the inputs; the gradients of values, and
        those of locations and weights, take as many multiply-adds again each. Softmax and addresses are not counted.
        """
        pixels = sum(height * width for height, width in self.shapes)
        samples = self.batch * pixels * HEADS * len(self.shapes) * POINTS
        results = self.batch * pixels * HEADS * CHANNELS
        numbers = results + samples * 3  # value, offsets, logits
        moved = (numbers + results) * (2 if training else 1) * getattr(torch, self.dtype).itemsize + pixels * 8
        return moved, samples * CHANNELS * 4 * (3 if training else 1)


def parse_size(text: str) -> tuple[int, int, int]:
    """Parse ``HxW`` or ``BxHxW`` to (B, H, W)."""
    if not re.fullmatch(r"([1-9]\d*x)?[1-9]\d*x[1-9]\d*", text):
        raise ValueError(f"a size is HxW or BxHxW in pixels, such as 800x1067 or 2x1024x1024; found {text!r}.")
    numbers = [int(number) for number in text.split("x")]
    batch, height, width = [1, *numbers][-3:]
    return batch, height, width


def _centres(height: int, width: int) -> Tensor:
    """Return the pixel centres (x, y), [H * W, 2] in [0, 1]."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)
