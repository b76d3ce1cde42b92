"""Images too large for memory: cut into overlapping tiles, whose results are joined where they meet."""

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
    """Calls a model on overlapping tiles of each image; called as the model itself is.

    Objects are joined across tiles where they have the same class and an IoU above 0.5 within the overlap of the two
    tiles; stuff of one class is one segment, as ever. A pixel is decided by the tile in whose core it lies: the seams
    run along the middle of overlaps. Images of at most one tile give what the model gives.

    Results lie on the CPU, whatever the model's device and the image's size: there is room for them.

    Memory is that of one tile, plus the results: a label map for panoptic, and with ``compact`` for the others too.

    Args:
        model: in evaluation mode; gives ``panoptic_seg``, ``instances`` and ``sem_seg``, or some of them.
        tile: side of a tile, in pixels of the input image.
        overlap: least overlap of neighbours, in pixels; about the size of what the model needs to recognise an object.
        compact: in place of ``sem_seg`` scores float [K, H, W] give ``sem_seg_labels`` int16 [H, W]; in place of the
            instances' ``pred_masks`` bool [n, H, W] give ``mask_crops``, a list of bool [h, w] masks that lie at
            ``pred_boxes``.

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
        """Results for each image; inputs as the model takes them: ``image`` [3, H, W], and optionally ``height`` and
        ``width`` of the result.

        Raises:
            ValueError: a result so much smaller than its image that a tile has no pixel of it.
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
    """Whether images can be cut into tiles of this side with this overlap, in pixels.

    Raises:
        ValueError: a tile without pixels, or an overlap that is negative or not smaller than half a tile.
    """
    if tile < 1:
        raise ValueError(f"tile is {tile}; it has to be at least 1 pixel, and is best what the model was trained with.")
    if not 0 <= 2 * overlap < tile:
        raise ValueError(
            f"tile is {tile}, overlap {overlap}; an overlap has to be at least 0 pixels and less than half a tile."
        )


def on_cpu(result: Mapping[str, Any]) -> dict[str, Any]:
    """A model's result for one image, with what lies on a device copied from there."""

    def copied(value: Any) -> Any:
        if isinstance(value, tuple):  # panoptic ids and segments
            return tuple(map(copied, value))
        return value.to("cpu") if hasattr(value, "to") else value

    return {key: copied(value) for key, value in result.items()}
