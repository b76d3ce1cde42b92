"""Images to measure with, where there are none of one's own."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn


def block_image(size: tuple[int, int], generator: Generator) -> Tensor:
    """Return an image of coarse random blocks, uint8 [3, H, W]; plain noise would look the same everywhere."""
    blocks = torch.rand(1, 3, size[0] // 32 + 1, size[1] // 32 + 1, generator=generator) * 255
    return nn.functional.interpolate(blocks, size=size, mode="bicubic")[0].clamp(0, 255).byte()
