"""Link the queries of one frame to those of the frames before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.tracking.places import mask_iou

_RECENT = 0.1  # similarity that a track gains which was in the frame before, over one that comes back
_SHARE = 0.5  # of the new embedding in a track's
_STAYS = 5  # frames for which an object that is not seen is looked for where it was


class FrameTracks(NamedTuple):
    """The tracks in one frame.

    Attributes:
        queries: [n] int64, ascending.
        tracks: number of each query's track, counted from 1; a number is never used again.
        class_logits: [n, K + 1] float32, averaged over the frames of each track so far.
    """

    queries: Tensor
    tracks: list[int]
    class_logits: Tensor

    @classmethod
    def of(
        cls, queries: Sequence[int], tracks: list[int], means: Sequence[Tensor], class_logits: Tensor
    ) -> FrameTracks:
        """Build from lists; ``means`` are each track's logits [K + 1], on the CPU; the rest is as ``class_logits``."""
        device = class_logits.device
        averaged = torch.stack(list(means)) if means else class_logits[:0].float()
        return cls(torch.tensor(queries, dtype=torch.int64, device=device), tracks, averaged.to(device))


@dataclass
class _Track:
    number: int
    embedding: np.ndarray  # [C], of length 1
    class_logits: Tensor  # [K + 1], their sum over frames
    frames: int
    last: int  # the last frame with it
    place: Tensor | None = None  # bool [h, w], its last mask, if overlap counts


class Tracker:
    """Follow objects from frame to frame by the similarity of their queries' embeddings.

    Queries of a frame and tracks are assigned one to one at the greatest sum of cosine similarities (MinVIS, arXiv
    2208.02245, section 3.2). Unlike there, only queries that say "object" take part, and a track whose object is not
    seen is kept for some time, in which it may come back. What is kept of a film does not grow with its length.

    Objects that all look alike are told apart by their places: with ``overlap`` w, the evidence for a pair is
    ``(1 - w) * cosine + w * IoU``, the IoU of the query's mask and the track's last one, of at most 5 frames ago (0
    after that, so that an object comes back by looks alone, which then have to be very like).

    Args:
        start: a query without a track begins one if its probability of being an object is at least this.
        follow: a query of less never goes on with a track; None: half of ``start``.
        similarity: the least evidence for a query and its track, the cosine similarity without ``overlap``, -1 to 1.
        memory: frames for which an object that is not seen is remembered.
        overlap: share of the masks' overlap in the evidence, 0 to 1.
        duplicates: a query whose mask and that of a more probable one have a greater IoU than this takes no part, 0 to
            1; 1: all take part.

    Raises:
        ValueError: a value outside of its range.
    """

    def __init__(
        self,
        start: float = 0.5,
        follow: float | None = None,
        similarity: float = 0.5,
        memory: int = 150,
        overlap: float = 0.0,
        duplicates: float = 1.0,
    ) -> None:
        self.start, self.follow = start, start / 2 if follow is None else follow
        self.similarity, self.memory = similarity, memory
        self.overlap, self.duplicates = overlap, duplicates
        if not 0 <= self.follow <= start <= 1:
            raise ValueError(f"Tracker: 0 <= follow <= start <= 1 has to hold; found {self.follow} and {start}.")
        if not -1 <= similarity <= 1 or memory < 0:
            raise ValueError(
                f"Tracker: similarity is {similarity} and memory {memory}; the first has to be within -1 and 1, the "
                "second at least 0 frames."
            )
        if not 0 <= overlap <= 1 or not 0 <= duplicates <= 1:
            raise ValueError(f"Tracker: overlap is {overlap} and duplicates {duplicates}; both are within 0 and 1.")
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first of another film."""
        self._tracks: list[_Track] = []
        self._frame = -1
        self._count = 0

    @torch.no_grad()
    def step(
        self, embeddings: Tensor, class_logits: Tensor, masks: Callable[[Tensor], Tensor] | None = None
    ) -> FrameTracks:
        """Link the next frame.

        Args:
            embeddings: [Q, C], of queries.
            class_logits: [Q, K + 1].
            masks: gives the masks bool [n, h, w] of queries [n] int64, at any one size; needed for ``overlap`` and
                ``duplicates``.

        Raises:
            ValueError: masks count, and there are none.
        """
        if (self.overlap or self.duplicates < 1) and masks is None:
            raise ValueError(
                f"Tracker: overlap is {self.overlap} and duplicates {self.duplicates}, so each step needs the masks of "
                "its frame."
            )
        self._frame += 1
        self._tracks = [track for track in self._tracks if self._frame - track.last <= self.memory + 1]
        logits = class_logits.float().cpu()
        objectness = 1 - logits.softmax(-1)[:, -1]
        candidates = (objectness >= self.follow).nonzero().flatten()
        places = None
        if masks is not None and (self.overlap or self.duplicates < 1):
            places = masks(candidates).cpu()
            if self.duplicates < 1:
                kept = _without_duplicates(objectness[candidates], places, self.duplicates)
                candidates, places = candidates[kept], places[kept]
        vectors = F.normalize(embeddings[candidates.to(embeddings.device)].float().cpu(), dim=-1).numpy()
        found = self._assign(vectors, places)
        queries: list[int] = []
        tracks: list[_Track] = []
        for row, query in enumerate(candidates.tolist()):
            track = found.get(row)
            if track is None:
                if objectness[query] < self.start:
                    continue
                self._count += 1
                track = _Track(self._count, vectors[row], torch.zeros_like(logits[query]), 0, self._frame)
                self._tracks.append(track)
            mixed = (1 - _SHARE) * track.embedding + _SHARE * vectors[row]
            track.embedding = mixed / max(float(np.linalg.norm(mixed)), 1e-12)
            track.class_logits = track.class_logits + logits[query]
            track.frames, track.last = track.frames + 1, self._frame
            track.place = places[row].clone() if places is not None and self.overlap else None  # a view keeps them all
            queries.append(query)
            tracks.append(track)
        means = [track.class_logits / track.frames for track in tracks]
        return FrameTracks.of(queries, [track.number for track in tracks], means, class_logits)

    def _assign(self, vectors: np.ndarray, places: Tensor | None) -> dict[int, _Track]:
        """Return the track of each row that has one, of unit vectors [n, C] and masks bool [n, h, w]."""
        if not len(vectors) or not self._tracks:
            return {}
        from scipy.optimize import linear_sum_assignment  # takes a second to import

        similar = np.nan_to_num(vectors @ np.stack([track.embedding for track in self._tracks]).T, nan=-1.0)
        if places is not None and self.overlap:
            similar = (1 - self.overlap) * similar + self.overlap * self._overlaps(places)
        recent = np.array([track.last == self._frame - 1 for track in self._tracks])
        # What is too unlike counts as no gain, and not as a loss, so that it never decides between others.
        gain = np.where(similar >= self.similarity, similar - self.similarity + _RECENT * recent + 1e-6, 0.0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        return {
            int(row): self._tracks[column]
            for row, column in zip(rows, columns, strict=True)
            if similar[row, column] >= self.similarity
        }

    def _overlaps(self, places: Tensor) -> np.ndarray:
        """Return the IoU of masks bool [n, h, w] and the last ones of tracks: [n, tracks]."""
        result = np.zeros((len(places), len(self._tracks)), np.float32)
        for track in self._tracks:
            if self._frame - track.last > _STAYS:
                track.place = None
        # A film's frames may change their size, and then nothing can be compared.
        near = [
            (column, track.place)
            for column, track in enumerate(self._tracks)
            if track.place is not None and track.place.shape == places.shape[1:]
        ]
        if near:
            last = torch.stack([place for _, place in near]).flatten(1)
            result[:, [column for column, _ in near]] = mask_iou(places.flatten(1), last).numpy()
        return result


def _without_duplicates(scores: Tensor, masks: Tensor, most: float) -> Tensor:
    """Return the rows, ascending, whose masks overlap none of a better row that stays by an IoU above ``most``.

    Args:
        scores: [n].
        masks: bool [n, h, w].
    """
    order = scores.argsort(descending=True, stable=True)
    above = (mask_iou(masks[order].flatten(1), masks[order].flatten(1)) > most).numpy()
    stays = np.ones(len(order), bool)
    for place in range(len(order)):
        if stays[place]:
            stays[place + 1 :] &= ~above[place, place + 1 :]
    return order[torch.from_numpy(stays)].sort().values
