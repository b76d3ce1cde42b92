"""Choose whether a predictor follows objects, and link its outputs."""

from __future__ import annotations

from typing import Any

from torch import nn

from mask2former.predictor.lazy_outputs import LazyOutputs, MaskOutputs
from mask2former.predictor.video import Frames
from mask2former.predictor.windows import Windows, sees_clips
from mask2former.tracking import Tracker
from mask2former.visualization import INSTANCE_THRESHOLD


def choose_tracker(
    track: bool | Tracker | None,
    sources: Any,
    *,
    model: nn.Module,
    tasks: tuple[str, ...],
    threshold: float | None,
    tiled: bool,
    windows: Windows | None = None,
) -> Tracker | None:
    """Return the tracker of a stream of images, or None.

    Args:
        track: see :meth:`mask2former.Predictor.stream`.
        sources: the images.
        model: see :func:`tracker_for`.
        tasks, threshold: the predictor's.
        tiled: images are cut into tiles.
        windows: how a film is cut, which is to be followed then; None: not said.

    Raises:
        ValueError: tracking with tiles; or windows for a model that does not see clips, or where others, or nobody,
            follow.
    """
    if windows is not None:
        if not sees_clips(model):
            raise ValueError(
                "windows (--window) are for models that see all frames of a clip at once; this one sees single frames: "
                "leave them out, and its objects are followed from frame to frame."
            )
        if track is False or isinstance(track, Tracker):
            raise ValueError(
                "windows (--window) follow objects by themselves: leave them out, or else track=False (--no-track) or "
                "the tracker of your own."
            )
        track = True
    if track is None:  # stuff has no tracks
        track = isinstance(sources, Frames) and not tiled and tasks != ("semantic",)
    if track is False:
        return None
    if tiled:
        raise ValueError("Tracking links the queries of whole images, which tiles have not: leave out tile.")
    if isinstance(track, Tracker):
        return track
    return tracker_for(model, tasks, threshold)


def tracker_for(model: nn.Module, tasks: tuple[str, ...], threshold: float | None) -> Tracker:
    """Return the tracker that a model's settings ask for.

    Args:
        model: its settings tell from which score on an object is one, and what links objects.
        tasks, threshold: the predictor's.
    """
    settings = getattr(model, "post_processing", None)
    if threshold is None:
        threshold = settings.object_mask_threshold if settings and "panoptic" in tasks else INSTANCE_THRESHOLD
    if settings is None:
        return Tracker(threshold)
    link = settings.clips
    return Tracker(threshold, None, link.similarity, link.memory, link.overlap, link.duplicates)


def linked(outputs: LazyOutputs, tracker: Tracker) -> LazyOutputs:
    """Return the outputs of a film's next frame, with its objects linked to those before.

    Raises:
        ValueError: the model is no mask architecture.
    """
    if not isinstance(outputs, MaskOutputs):
        raise ValueError("Tracking links the queries of a mask architecture, which this model has not: track=False.")
    return outputs.tracked(tracker)
