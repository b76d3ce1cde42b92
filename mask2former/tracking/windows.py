"""Join the tracks of overlapping windows of a film, which a clip model saw one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mask2former.modeling.postprocess import ResizedMasks
from mask2former.tracking.places import coarse_masks, mask_iou
from mask2former.tracking.tracker import FrameTracks


@dataclass
class _Track:
    number: int
    class_logits: Tensor  # [K + 1], their sum over frames
    frames: int
    places: list[Tensor]  # bool [h, w], in each frame that the next window may share


class WindowLinker:
    """Number the objects of a clip model in windows that share frames.

    A query of a window goes on with a track of the window before if their masks in the shared frames overlap: they are
    assigned one to one at the greatest sum of IoUs, each over all shared frames together. An object that no shared
    frame shows ends its track. Only the last window's tracks are kept, whatever the film's length.

    Args:
        start: a query without a track begins one if its probability of being an object is at least this; one of less
            than half of it never goes on with a track.
        least: the least IoU of a query and its track, 0 to 1.

    Raises:
        ValueError: a value outside of its range.
    """

    def __init__(self, start: float = 0.5, least: float = 0.3) -> None:
        if not 0 <= start <= 1 or not 0 < least <= 1:
            raise ValueError(
                f"WindowLinker: start is {start} and least {least}; both are shares, and least is above 0."
            )
        self.start, self.least = start, least
        self._tracks: list[_Track] = []
        self._count = 0

    @torch.no_grad()
    def step(self, class_logits: Tensor, frames: Sequence[ResizedMasks], shared: int, keep: int) -> FrameTracks:
        """Link the next window.

        Args:
            class_logits: [Q, K + 1], of the window.
            frames: masks of each of its frames.
            shared: how many of its first frames were the last ones of the window before.
            keep: how many of its last frames the next window may share.

        Returns:
            The tracks in this window; class logits are averaged over the frames of each track so far.
        """
        logits = class_logits.float().cpu()
        objectness = 1 - logits.softmax(-1)[:, -1]
        candidates = (objectness >= self.start / 2).nonzero().flatten()
        rows = candidates.to(class_logits.device)
        places = {t: coarse_masks(frames[t], rows).cpu() for t in {*range(shared), *_last(len(frames), keep)}}
        found = self._assign([places[t] for t in range(shared)])
        queries: list[int] = []
        tracks: list[_Track] = []
        for row, query in enumerate(candidates.tolist()):
            track = found.get(row)
            if track is None:
                if objectness[query] < self.start:
                    continue
                self._count += 1
                track = _Track(self._count, torch.zeros_like(logits[query]), 0, [])
            new = len(frames) - (shared if track.frames else 0)
            track.class_logits = track.class_logits + logits[query] * new
            track.frames += new
            track.places = [places[t][row].clone() for t in _last(len(frames), keep)]
            queries.append(query)
            tracks.append(track)
        self._tracks = tracks
        means = [track.class_logits / track.frames for track in tracks]
        return FrameTracks.of(queries, [track.number for track in tracks], means, class_logits)

    def _assign(self, places: list[Tensor]) -> dict[int, _Track]:
        """Return the track of each row that has one, of masks bool [n, h, w] in each shared frame."""
        if not places or not self._tracks or not len(places[0]):
            return {}
        from scipy.optimize import linear_sum_assignment  # takes a second to import

        known = [torch.cat([place.flatten() for place in track.places[-len(places) :]]) for track in self._tracks]
        iou = mask_iou(torch.cat([place.flatten(1) for place in places], 1), torch.stack(known)).numpy()
        rows, columns = linear_sum_assignment(np.where(iou >= self.least, iou, 0.0), maximize=True)
        pairs = zip(rows, columns, strict=True)
        return {int(row): self._tracks[column] for row, column in pairs if iou[row, column] >= self.least}


def _last(length: int, count: int) -> range:
    return range(max(0, length - count), length)
