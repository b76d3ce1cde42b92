"""Inference on images too large for memory: in overlapping tiles, whose results are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mask2former.tiling.grid import Grid
from mask2former.tiling.instance import InstanceCanvas, whole_masks
from mask2former.tiling.panoptic import PanopticCanvas
from mask2former.tiling.semantic import SemanticCanvas

__all__ = ["Model", "TiledInference", "check_tiles", "on_cpu", "whole_masks"]

Model = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


class TiledInference:
    """Inference on overlapping tiles of each image, called like the model itself.

    Objects are joined across tiles if they have the same class and an IoU above 0.5 within the overlap of the two
    tiles; stuff of one class is one segment, as usual. In panoptic and semantic results, the tile in whose core a pixel
    lies decides it: seams run along the middle of overlaps. An instance is the union of what tiles saw of it. Images of
    at most one tile get the model's own result.

    Results are on the CPU, whatever the model's device and the image's size, because there is room for them. Memory is
    that of one tile, plus the results: a label map for panoptic, and with ``compact`` for semantic ones too.

    Args:
        model: in evaluation mode; returns ``panoptic_seg``, ``instances`` and ``sem_seg``, or some of them.
        tile: side of a tile, in pixels of the input image.
        overlap: least overlap of neighbours, in pixels; about as much as the model needs to recognise an object.
        compact: return ``sem_seg_labels`` int16 [H, W] instead of ``sem_seg`` scores float [K, H, W], and the
            instances' ``mask_crops``, a list of bool [h, w] masks at ``pred_boxes``, instead of ``pred_masks`` bool
            [n, H, W].

    Raises:
        ValueError: see :func:`check_tiles`.
    """

    def __init__(self, model: Model, tile: int, overlap: int, *, compact: bool = False) -> None:
        check_tiles(tile, overlap)
        self.model = model
        self.tile = tile
        self.overlap = overlap
        self.compact = compact

    def __call__(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Compute the results of each image.

        Args:
            batched_inputs: ``image`` [3, H, W] of each, and optionally ``height`` and ``width`` of the result.

        Raises:
            ValueError: a result so much smaller than its image that a tile has no pixel of it, or a kind of result that
                cannot be joined.
        """
        return [self._results(dict(inputs)) for inputs in batched_inputs]

    def _results(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"]
        size = (image.shape[-2], image.shape[-1])
        target = (inputs.get("height") or size[0], inputs.get("width") or size[1])
        grid = Grid.over(size, target, self.tile, self.overlap)
        if len(grid) == 1:
            result = self.model([inputs])[0]
            if not self.compact:
                return on_cpu(result)
        canvases: dict[str, PanopticCanvas | InstanceCanvas | SemanticCanvas] = {}
        for tile in grid:
            rows, columns = tile.source
            height, width = tile.size
            piece = {**inputs, "image": image[..., rows, columns], "height": height, "width": width}
            for name, part in (result if len(grid) == 1 else self.model([piece])[0]).items():
                if name == "panoptic_seg":
                    canvas = canvases.setdefault(name, PanopticCanvas(target))
                elif name == "instances":
                    canvas = canvases.setdefault(name, InstanceCanvas(target, self.compact))
                elif name in ("sem_seg", "sem_seg_labels"):
                    canvas = canvases.setdefault(name, SemanticCanvas(target, self.compact))
                else:
                    raise ValueError(f"TiledInference does not know how to join {name!r}, which the model gives.")
                canvas.add(tile, part)
        return {canvas.name: canvas.result() for canvas in canvases.values()}


def check_tiles(tile: int, overlap: int) -> None:
    """Check that images can be cut into tiles of this side with this overlap, in pixels.

    Raises:
        ValueError: a tile without pixels, or an overlap that is negative or not smaller than half a tile.
    """
    if tile < 1:
        raise ValueError(
            f"tile is {tile}; it has to be at least 1 pixel, and is best the crop size that the model was trained with."
        )
    if not 0 <= 2 * overlap < tile:
        raise ValueError(
            f"tile is {tile}, overlap {overlap}; an overlap has to be at least 0 pixels and less than half a tile."
        )


def on_cpu(result: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a model's result for one image to the CPU."""

    def copied(value: Any) -> Any:
        if isinstance(value, tuple):  # panoptic ids and segments
            return tuple(map(copied, value))
        return value.to("cpu") if hasattr(value, "to") else value

    return {key: copied(value) for key, value in result.items()}
