"""The tracks of a clip whose frames went through a network one by one, or in windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mask2former.modeling.postprocess import MINVIS, WINDOWS, ClipSettings, ResizedMasks, track_results
from mask2former.structures import DenseMasks
from mask2former.tracking.known import FrameTracks
from mask2former.tracking.outputs import query_embeddings
from mask2former.tracking.places import coarse_masks
from mask2former.tracking.query_linker import QueryLinker
from mask2former.tracking.tracker import Tracker
from mask2former.tracking.windows import WindowLinker

Predicted = list[tuple[Tensor, ResizedMasks]]
"""Class logits [Q, K + 1] and masks of each image."""

_LARGEST = 6e4  # a logit that float16 holds


class LinkedMasks:
    """Masks of the tracks in one frame, callable by the numbers of tracks.

    Kept at the size of the network's mask features, in half precision and on the CPU: of 100 queries and a frame of
    360x640 that is 3 MB, where the features are 15 and the masks at full size 92.

    Args:
        masks: the frame's.
        queries: [n] int64, the queries of tracks.
        tracks: number of the track of each.
    """

    def __init__(self, masks: ResizedMasks, queries: Tensor, tracks: Sequence[int]) -> None:
        self.size = masks.size
        queries = queries.to(masks.masks.features.device)
        together = masks.masks.activation == "softmax"  # over all queries, so that all are kept
        of_frame = masks.masks.features[masks.image][:, masks.frame, None]
        logits = masks.masks.combine(masks.image, of_frame, None if together else queries)
        self._device = logits.device
        kept = DenseMasks(
            logits.clamp(-_LARGEST, _LARGEST).half().cpu()[None], masks.masks.activation, masks.masks.align_corners
        )
        self._masks = replace(masks, masks=kept, image=0, frame=0)
        rows = queries.tolist() if together else range(len(queries))
        self._row = dict(zip(tracks, rows, strict=True))

    def __call__(self, queries: Tensor) -> Tensor:
        """Compute the mask logits float32 [n, H, W] of tracks [n], on the network's device; -1 where a track is not."""
        rows = [self._row.get(track) for track in queries.tolist()]
        result = torch.full((len(rows), *self.size), -1.0, device=self._device)
        shown = [place for place, row in enumerate(rows) if row is not None]
        if shown:
            wanted = torch.tensor([rows[place] for place in shown])
            kept = self._masks.masks
            if kept.activation == "softmax":
                part, wanted = kept.features, wanted.to(self._device)
            else:
                part, wanted = kept.features[:, wanted], torch.arange(len(shown), device=self._device)
            moved = DenseMasks(part.to(self._device), kept.activation, kept.align_corners)
            result[shown] = replace(self._masks, masks=moved)(wanted)
        return result


def link_clip(
    predict: Callable[[list[dict[str, Any]]], Predicted], clip: dict[str, Any], settings: ClipSettings
) -> dict[str, Any]:
    """Return the tracks of a clip, from frames that went through the network ``settings.frames`` at a time.

    The class of a track is that of its class logits' mean, over the whole clip (minvis) or the frames that show it
    (tracker) or of the windows that do, whose class logits are for all their frames together, as the clip model was
    trained. In the second case its score is multiplied by the square root of the share of the clip's frames that show
    it, so that fragments come last; in windows these are the frames in which its mask is not empty.

    Args:
        predict: the network; images -> class logits and masks of each; in windows, clips -> those of each frame.
        clip: with ``image``, a list of T frames [3, H, W]; ``height``, ``width`` of the result.
        settings: how frames are linked.

    Returns:
        See :func:`~mask2former.modeling.postprocess.tracks.track_results`.
    """
    common: dict[str, Any] = {key: clip[key] for key in ("height", "width", "file_name") if key in clip}
    if settings.way == WINDOWS:
        return _tracked(_in_windows(predict, clip["image"], common, settings), settings)
    frames = _predicted(predict, clip["image"], common, settings.frames)
    return _minvis(frames, settings) if settings.way == MINVIS else _tracked(_followed(frames, settings), settings)


def _predicted(
    predict: Callable[[list[dict[str, Any]]], Predicted], images: Sequence[Tensor], common: dict[str, Any], count: int
) -> Iterator[tuple[Tensor, ResizedMasks]]:
    for first in range(0, len(images), count):
        yield from predict([{**common, "image": image} for image in images[first : first + count]])


def _minvis(frames: Iterator[tuple[Tensor, ResizedMasks]], settings: ClipSettings) -> dict[str, Any]:
    linker = QueryLinker(settings.overlap)
    total: Tensor | None = None
    linked = []
    for class_logits, masks in frames:
        order = linker.step(query_embeddings(masks), coarse_masks(masks) if settings.overlap else None)
        ordered = class_logits[order.to(class_logits.device)].float()
        total = ordered if total is None else total + ordered
        linked.append(LinkedMasks(masks, order, range(len(order))))
    assert total is not None
    return track_results(total / len(linked), linked, settings.tracks)


def _followed(
    frames: Iterator[tuple[Tensor, ResizedMasks]], settings: ClipSettings
) -> Iterator[tuple[FrameTracks, ResizedMasks]]:
    tracker = Tracker(settings.start, None, settings.similarity, settings.memory, settings.overlap, settings.duplicates)
    for class_logits, masks in frames:
        yield tracker.step(query_embeddings(masks), class_logits, partial(coarse_masks, masks)), masks


def _in_windows(
    predict: Callable[[list[dict[str, Any]]], Predicted],
    images: Sequence[Tensor],
    common: dict[str, Any],
    settings: ClipSettings,
) -> Iterator[tuple[FrameTracks, ResizedMasks]]:
    linker = WindowLinker(settings.start, duplicates=settings.duplicates)
    shared = 0
    for first in range(0, max(1, len(images) - settings.shared), settings.frames - settings.shared):
        predicted = predict([{**common, "image": list(images[first : first + settings.frames])}])
        masks = [of_frame for _, of_frame in predicted]
        found = linker.step(predicted[0][0], masks, shared, settings.shared)
        for of_frame in masks[shared:]:
            yield found, of_frame
        shared = settings.shared


def _tracked(frames: Iterator[tuple[FrameTracks, ResizedMasks]], settings: ClipSettings) -> dict[str, Any]:
    means: dict[int, Tensor] = {}
    linked = []
    lengths: dict[int, int] = {}
    for found, masks in frames:
        shown = [True] * len(found.tracks)
        if settings.way == WINDOWS:  # a query is in all frames of a window, also in those that do not show its object
            shown = coarse_masks(masks, found.queries).flatten(1).any(1).tolist()
        for track, mean, here in zip(found.tracks, found.class_logits, shown, strict=True):
            means[track] = mean
            lengths[track] = lengths.get(track, 0) + here
        nothing = found.class_logits[:0]
        linked.append(LinkedMasks(masks, found.queries, [track - 1 for track in found.tracks]))
    numbers = sorted(means)  # 1, 2, ...
    share = torch.tensor([lengths[track] / len(linked) for track in numbers], device=nothing.device)
    logits = torch.stack([means[track] for track in numbers]) if numbers else nothing
    return track_results(logits, linked, settings.tracks, share.sqrt())
