"""Blocks of the Swin Transformer in chunks of windows, then of patches, at inference on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mask2former.modeling.backbone.swin_stages import SwinBlock
from mask2former.modeling.cpu.chunking import chunk_size
from mask2former.modeling.layers.window_attention import WindowGrid


class ChunkedSwinBlock(SwinBlock):
    """Swin block of one image after the other, in chunks of windows, then of patches.

    What lies between the layers stays in the cache so, and padding, shifting and cutting are one look-up. Two blocks of
    Swin-T's first stage on an 800 x 1088 image: 527 ms for 757, 79 MiB for 352; the whole backbone: 2.71 s for 2.77,
    161 MiB for 377 (AMD EPYC, one thread).
    """

    def forward(self, x: Tensor, grid: WindowGrid) -> Tensor:
        if self.training or not _pays(x):
            return super().forward(x, grid)
        return torch.cat([self._of_image(image, grid) for image in x.split(1)])

    def _of_image(self, x: Tensor, grid: WindowGrid) -> Tensor:
        """Transform x [1, H, W, C]."""
        patches, places = patch_places(grid, shifted=self.shifted)
        length = chunk_size(x)
        count = max(1, length // patches.shape[1])
        flat = x.flatten(0, 2)
        attended = torch.empty(patches.numel(), x.shape[-1], dtype=x.dtype)
        targets = attended.view(*patches.shape, -1).split(count)
        masks: Sequence[Tensor | None] = grid.shift_mask.split(count) if self.shifted else [None] * len(targets)
        for target, numbers, mask in zip(targets, patches.split(count), masks, strict=True):
            windows = self.norm1(flat.index_select(0, numbers.flatten().clamp(min=0))).view_as(target)
            windows = windows.masked_fill_(numbers[..., None] < 0, 0)
            target.copy_(self.attn(windows[None], mask)[0])
        result = torch.empty_like(flat)
        for target, before, numbers in zip(result.split(length), flat.split(length), places.split(length), strict=True):
            torch.add(before, attended.index_select(0, numbers), out=target)
            target += self.mlp(self.norm2(target))
        return result.view_as(x)


def patch_places(grid: WindowGrid, *, shifted: bool) -> tuple[Tensor, Tensor]:
    """Return the permutations of ``grid.cut`` and ``grid.join`` as indices; patches are counted row by row.

    Returns:
        The patch at each place of a window, int64 [windows, M * M], -1 for padding; and the place of each patch,
        counted through all windows, int64 [H * W].
    """
    height, width = grid.size
    numbers = torch.arange(1, height * width + 1, device=grid.device).view(1, height, width, 1)
    patches = grid.cut(numbers, shifted=shifted).view(-1, grid.window**2) - 1  # padded with zeros
    places = torch.arange(patches.numel(), device=grid.device).view(1, *patches.shape, 1)
    return patches, grid.join(places, shifted=shifted).flatten()


def _pays(x: Tensor) -> bool:
    """Tell whether chunks pay: on a CPU without gradients, and not while recording a graph, which would unroll them."""
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not recorded
