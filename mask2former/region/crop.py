"""Cut the marked part out of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 64  # pixels of a side that a network should see at least, where the image has them


@dataclass(frozen=True)
class Region:
    """A marked part of an image.

    Attributes:
        mask: [H, W] bool at the result's size, the marked pixels.
        rows, columns: the rectangle of the result that was looked at.
    """

    mask: Tensor
    rows: slice
    columns: slice


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask [H, W] to (H, W) pixels by the nearest neighbour, as bool."""
    if tuple(mask.shape) == size:
        return mask != 0
    return F.interpolate((mask != 0)[None, None].byte(), size=size, mode="nearest-exact")[0, 0].bool()


def require_mask(inputs: dict[str, Any]) -> Tensor:
    """Return the ``mask`` of a model's input for an image.

    Raises:
        ValueError: it is not [H, W] of the image's or the result's size, or the input is a clip.
    """
    name, mask, image = inputs.get("file_name", "an image"), inputs["mask"], inputs["image"]
    if isinstance(image, list | tuple):
        raise ValueError(f"{name}: a mask guides images, but this is a clip; give its frames one by one.")
    size = (image.shape[-2], image.shape[-1])
    result = (inputs.get("height") or size[0], inputs.get("width") or size[1])
    if not isinstance(mask, Tensor) or tuple(mask.shape) not in (size, result):
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{name}: `mask` has to be a tensor [H, W] of the image's size {size}; found {found}.")
    return mask


def cut_out(inputs: dict[str, Any], fill: Sequence[float] | Tensor, margin: int = 32) -> tuple[dict[str, Any], Region]:
    """Return the model's input for the marked part of an image, and where it lies.

    Args:
        inputs: ``image`` [3, H, W], ``mask`` [H, W], nonzero where it marks, and optionally ``height`` and ``width`` of
            the result.
        fill: value of each channel of unmarked pixels.
        margin: pixels around the mask's bounding box.

    Raises:
        ValueError: the mask marks no pixel, or is not as :func:`require_mask` says.
    """
    mask, image = require_mask(inputs), inputs["image"]
    size = (image.shape[-2], image.shape[-1])
    result = (inputs.get("height") or size[0], inputs.get("width") or size[1])
    marked = resize_mask(mask, size).to(image.device)
    if not bool(marked.any()):
        raise ValueError(f"{inputs.get('file_name', 'an image')}: its mask marks no pixel, so there is nothing to see.")
    spans = [_span(marked.any(1 - axis), margin) for axis in (0, 1)]
    rows, columns = spans
    values = torch.as_tensor(fill, dtype=torch.float32, device=image.device).view(-1, 1, 1)
    values = values if image.is_floating_point() else values.round()
    seen = torch.where(marked[rows, columns], image[..., rows, columns], values.to(image.dtype))
    # At the result's own size, whose pixels the ends of the rectangle meet within half a pixel.
    out = [_scaled(span, size[axis], result[axis]) for axis, span in enumerate(spans)]
    piece = {name: value for name, value in inputs.items() if name != "mask"}
    piece |= {"image": seen, "height": out[0].stop - out[0].start, "width": out[1].stop - out[1].start}
    return piece, Region(resize_mask(mask, result), *out)


def _span(occupied: Tensor, margin: int) -> slice:
    """Return the occupied stretch of an axis with a margin, of at least LEAST pixels where there are so many."""
    places, length = occupied.nonzero().flatten(), len(occupied)
    start, stop = int(places[0]) - margin, int(places[-1]) + 1 + margin
    more = max(0, LEAST - (stop - start))
    start, stop = start - more // 2, stop + more - more // 2
    if start < 0:
        start, stop = 0, max(stop, min(LEAST, length))
    if stop > length:
        start, stop = min(start, max(0, length - LEAST)), length
    return slice(start, stop)


def _scaled(span: slice, length: int, target: int) -> slice:
    start = min(round(span.start * target / length), target - 1)
    return slice(start, max(start + 1, round(span.stop * target / length)))
