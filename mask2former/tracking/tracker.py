"""Link the queries of one frame to those of the frames before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_RECENT = 0.1  # similarity that a track gains which was in the frame before, over one that comes back
_SHARE = 0.5  # of the new embedding in a track's


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


@dataclass
class _Track:
    number: int
    embedding: np.ndarray  # [C], of length 1
    class_logits: Tensor  # [K + 1], their sum over frames
    frames: int
    last: int  # the last frame with it


class Tracker:
    """Follow objects from frame to frame by the similarity of their queries' embeddings.

    Queries of a frame and tracks are assigned one to one at the greatest sum of cosine similarities (MinVIS, arXiv
    2208.02245, section 3.2). Unlike there, only queries that say "object" take part, and a track whose object is not
    seen is kept for some time, in which it may come back. What is kept of a film does not grow with its length.

    Args:
        start: a query without a track begins one if its probability of being an object is at least this.
        follow: a query of less never goes on with a track; None: half of ``start``.
        similarity: the least cosine similarity of a query and its track, -1 to 1.
        memory: frames for which an object that is not seen is remembered.

    Raises:
        ValueError: a value outside of its range.
    """

    def __init__(
        self, start: float = 0.5, follow: float | None = None, similarity: float = 0.5, memory: int = 150
    ) -> None:
        self.start, self.follow = start, start / 2 if follow is None else follow
        self.similarity, self.memory = similarity, memory
        if not 0 <= self.follow <= start <= 1:
            raise ValueError(f"Tracker: 0 <= follow <= start <= 1 has to hold; found {self.follow} and {start}.")
        if not -1 <= similarity <= 1 or memory < 0:
            raise ValueError(
                f"Tracker: similarity is {similarity} and memory {memory}; the first has to be within -1 and 1, the "
                "second at least 0 frames."
            )
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first of another film."""
        self._tracks: list[_Track] = []
        self._frame = -1
        self._count = 0

    @torch.no_grad()
    def step(self, embeddings: Tensor, class_logits: Tensor) -> FrameTracks:
        """Link the next frame.

        Args:
            embeddings: [Q, C], of queries.
            class_logits: [Q, K + 1].
        """
        self._frame += 1
        self._tracks = [track for track in self._tracks if self._frame - track.last <= self.memory + 1]
        logits = class_logits.float().cpu()
        objectness = 1 - logits.softmax(-1)[:, -1]
        candidates = (objectness >= self.follow).nonzero().flatten()
        vectors = F.normalize(embeddings[candidates.to(embeddings.device)].float().cpu(), dim=-1).numpy()
        found = self._assign(vectors)
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
            queries.append(query)
            tracks.append(track)
        means = [track.class_logits / track.frames for track in tracks]
        return FrameTracks(
            torch.tensor(queries, dtype=torch.int64, device=class_logits.device),
            [track.number for track in tracks],
            (torch.stack(means) if means else logits[:0]).to(class_logits.device),
        )

    def _assign(self, vectors: np.ndarray) -> dict[int, _Track]:
        """Return the track of each row of unit vectors [n, C] that has one."""
        if not len(vectors) or not self._tracks:
            return {}
        from scipy.optimize import linear_sum_assignment  # takes a second to import

        similar = np.nan_to_num(vectors @ np.stack([track.embedding for track in self._tracks]).T, nan=-1.0)
        recent = np.array([track.last == self._frame - 1 for track in self._tracks])
        # What is too unlike counts as no gain, and not as a loss, so that it never decides between others.
        gain = np.where(similar >= self.similarity, similar - self.similarity + _RECENT * recent + 1e-6, 0.0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        return {
            int(row): self._tracks[column]
            for row, column in zip(rows, columns, strict=True)
            if similar[row, column] >= self.similarity
        }
