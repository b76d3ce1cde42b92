"""Films of any length through a clip model: overlapping windows, whose tracks are joined on the frames they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from mask2former.modeling.meta_arch import PredictsMasks, require_finite
from mask2former.modeling.postprocess import Windows
from mask2former.predictor.batches import Entry, UntilError
from mask2former.predictor.lazy_outputs import LazyOutputs
from mask2former.predictor.load_image import LoadedImage
from mask2former.tracking import TrackedOutputs, WindowLinker

__all__ = ["Windows", "in_windows", "sees_clips"]


def sees_clips(model: nn.Module) -> bool:
    """Tell whether a model sees all frames of a clip at once."""
    return bool(getattr(model, "sees_clips", False))


def in_windows(
    model: PredictsMasks, frames: Iterable[Entry], windows: Windows, start: float
) -> Iterator[tuple[LoadedImage, LazyOutputs]]:
    """Yield each frame of a film, in order, and its outputs, with tracks.

    A window is held at a time. A frame that two windows share has the masks of the first. Where frames change their
    size a new window begins, and shares nothing. An error of the frames is raised after the window of those before it.

    Args:
        model: sees clips.
        frames: of the film.
        windows: how it is cut.
        start: see :class:`mask2former.tracking.WindowLinker`.
    """
    linker = WindowLinker(start, duplicates=model.post_processing.clips.duplicates)
    held: list[Entry] = []
    shared = 0
    read = UntilError(frames)
    for entry in read:
        if held and entry[1]["image"].shape != held[0][1]["image"].shape:
            if len(held) > shared:
                yield from _window(model, linker, held, shared, 0)
            held, shared = [], 0
        held.append(entry)
        if len(held) == windows.frames:
            yield from _window(model, linker, held, shared, windows.shared)
            held, shared = held[-windows.shared :], windows.shared
    if len(held) > shared:
        yield from _window(model, linker, held, shared, 0)
    read.check()


@torch.no_grad()
def _window(
    model: PredictsMasks, linker: WindowLinker, held: list[Entry], shared: int, keep: int
) -> list[tuple[LoadedImage, LazyOutputs]]:
    first = held[0][1]
    clip = {"image": [inputs["image"] for _, inputs in held], "height": first["height"], "width": first["width"]}
    predicted = model.predict([clip])
    class_logits = predicted[0][0]
    require_finite([class_logits], [clip])
    masks = [of_frame for _, of_frame in predicted]
    found = linker.step(class_logits, masks, shared, keep)
    return [
        (image, TrackedOutputs(model.post_processing, class_logits, of_frame, found))
        for (image, _), of_frame in list(zip(held, masks, strict=True))[shared:]
    ]
