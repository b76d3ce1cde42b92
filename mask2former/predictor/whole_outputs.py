"""Run a model on images, whole or in tiles, and do what can be done if one does not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mask2former.out_of_memory import is_out_of_memory, release
from mask2former.predictor.lazy_outputs import FittingOutputs, LazyOutputs, TiledOutputs, run


def outputs_of(
    model: nn.Module,
    inputs: list[dict[str, Any]],
    tasks: Sequence[str],
    tile: int | None,
    overlap: int,
    tile_if_needed: bool,
) -> list[LazyOutputs]:
    """Return the outputs of images of one size: in tiles where a side is longer than ``tile``, or else whole.

    Raises:
        MemoryError: see :func:`whole_outputs`.
    """
    if tile is not None and max(inputs[0]["height"], inputs[0]["width"]) > tile:
        return [TiledOutputs(model, one, tasks, tile, overlap) for one in inputs]
    return whole_outputs(model, inputs, tasks, tile_if_needed)


def whole_outputs(
    model: nn.Module, inputs: list[dict[str, Any]], tasks: Sequence[str], tile_if_needed: bool
) -> list[LazyOutputs]:
    """Return the outputs of whole images; one that does not fit into memory is cut, or refused.

    Raises:
        MemoryError: an image does not fit; the message says what can be done.
    """
    try:
        return run(model, inputs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
    release()
    if tile_if_needed and "mask" not in inputs[0]:
        return [FittingOutputs(model, one, tasks) for one in inputs]
    height, width = inputs[0]["image"].shape[-2:]
    raise MemoryError(
        f"An image of {width} x {height} pixels does not fit into memory ({found}). What helps: "
        "Predictor(tile_if_needed=True), which joins results of tiles; a smaller size, "
        "opts=['INPUT.MIN_SIZE_TEST', '512']; a smaller model; on a GPU predictor.model.to(torch.bfloat16)."
    )
