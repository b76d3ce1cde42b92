"""Inference on a region of interest: only its pixels are seen and labelled, at the cost of its bounding box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mask2former.region.crop import Region, cut_out
from mask2former.region.paste import VOID, paste

__all__ = ["VOID", "Model", "Region", "RegionInference", "cut_out", "paste"]

Model = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


class RegionInference:
    """Inference on the marked pixels of each image, called like the model itself.

    An image with a ``mask`` is cut to the mask's bounding box and a margin; within it, unmarked pixels are filled with
    the mean image. Results have the size of the whole image, with nothing where the mask marks nothing: see
    :func:`mask2former.region.paste.paste`. An image without a mask gets the model's own result.

    Args:
        model: in evaluation mode.
        fill: value of each channel of unmarked pixels, in the image's units; the model's ``pixel_mean``.
        margin: pixels of the input image around the bounding box.
    """

    def __init__(self, model: Model, fill: Sequence[float] | Tensor, margin: int = 32) -> None:
        self.model = model
        self.fill = fill
        self.margin = margin

    def __call__(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Compute the results of each image, one at a time: padding one to another's size would change its result.

        Raises:
            ValueError: see :func:`mask2former.region.crop.cut_out`.
        """
        return [self._results(inputs) for inputs in batched_inputs]

    def _results(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs.get("mask") is None:
            return self.model([inputs])[0]
        piece, region = cut_out(inputs, self.fill, self.margin)
        return paste(self.model([piece])[0], region)
