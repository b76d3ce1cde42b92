"""Semantic inference in sliding windows, whose scores are averaged where they overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mask2former.structures import resize_frames

_AT_ONCE = 4  # windows in one batch


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows start along an axis: 0, stride, 2 stride, ..., and the last one so that it ends with it.

    Stride 0: as few windows as cover it, spread evenly (EoMT's rule); window i of n starts at
    ``floor(i * (length - window) / (n - 1))``.
    """
    if not stride:
        count = max(-(-length // window), 1)
        return [index * (length - window) // (count - 1) for index in range(count)] if count > 1 else [0]
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(index * stride, length - window), 0) for index in range(count)]


def windowed_scores(
    score: Callable[[Sequence[Tensor]], list[Tensor]], image: Tensor, window: int, stride: int, size: tuple[int, int]
) -> Tensor:
    """Compute the mean of the semantic scores of all windows that see a pixel, resized bilinearly to ``size``.

    Args:
        score: images [3, h, w] of one size -> their scores [K, h, w].
        image: [3, H, W]; sides shorter than the window are one window.
        window, stride: side of the square windows and distance of neighbours, in pixels; see :func:`window_starts`.
        size: (H, W) of the result.

    Returns:
        [K, *size] float32.
    """
    height, width = image.shape[-2:]
    places = list(product(*(window_starts(side, window, stride) for side in (height, width))))
    total: Tensor | None = None
    seen = torch.zeros(height, width)
    for first in range(0, len(places), _AT_ONCE):
        parts = [(slice(top, top + window), slice(left, left + window)) for top, left in places[first:][:_AT_ONCE]]
        for (rows, columns), scores in zip(parts, score([image[:, rows, cols] for rows, cols in parts]), strict=True):
            if total is None:
                total = scores.new_zeros(len(scores), height, width)
            total[:, rows, columns] += scores
            seen[rows, columns] += 1
    assert total is not None
    return resize_frames((total / seen.to(total.device))[None], size)[0]


def with_window(inputs: dict[str, Any], window: Tensor) -> dict[str, Any]:
    """Return the inputs with a window [3, h, w] as their image, to be answered at its own size."""
    return {**inputs, "image": window, "height": window.shape[-2], "width": window.shape[-1]}
