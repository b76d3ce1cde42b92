"""Link the queries of one frame to those of the frames before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.tracking.known import FrameTracks, KnownTracks
from mask2former.tracking.places import mask_iou, without_duplicates

_RECENT = 0.1  # similarity that a track gains which was in the frame before, over one that comes back
_SHARE = 0.5  # of the new embedding in a track's
_STAYS = 5  # frames for which an object that is not seen is looked for where it was


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
        self._known = KnownTracks()
        self._embeddings = np.zeros((0, 0), np.float32)  # [tracks, C], of length 1
        self._last = np.zeros(0, np.int64)  # the last frame with each track,
        self._row = np.zeros(0, np.int64)  # and its mask's row among those of this frame
        self._masks: dict[int, Tensor] = {}  # bool [n, h, w] of the last frames' candidates, if overlap counts
        self._frame = -1

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
        self._forget()
        objectness = 1 - class_logits.float().cpu().softmax(-1)[:, -1]
        queries = (objectness >= self.follow).nonzero().flatten()
        shown = np.arange(len(queries))  # their rows among the masks
        overlaps = None
        if masks is not None and (self.overlap or self.duplicates < 1):
            places = masks(queries).cpu()
            pixels = places.flatten(1).float()
            if self.duplicates < 1:
                shown = without_duplicates(objectness[queries], pixels, self.duplicates)
            if self.overlap:
                overlaps = self._overlaps(pixels, places.shape[1:])[shown]
                self._masks[self._frame] = places
            queries = queries[torch.from_numpy(shown)]
        vectors = F.normalize(embeddings[queries.to(embeddings.device)].float().cpu(), dim=-1).numpy()
        rows = self._assign(vectors, overlaps)
        begins = (rows < 0) & (objectness[queries] >= self.start).numpy()
        self._known.begin(rows, begins)
        self._embeddings = np.concatenate([self._embeddings, vectors[begins]]) if len(self._last) else vectors[begins]
        self._last, self._row = (np.pad(of_tracks, (0, int(begins.sum()))) for of_tracks in (self._last, self._row))
        tracked = rows >= 0
        rows = rows[tracked]
        mixed = (1 - _SHARE) * self._embeddings[rows] + _SHARE * vectors[tracked]
        self._embeddings[rows] = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
        self._last[rows], self._row[rows] = self._frame, shown[tracked]
        return self._known.add(rows, queries[torch.from_numpy(tracked)], class_logits)

    def _forget(self) -> None:
        """Forget the tracks that were not seen for too long, and masks that are too old."""
        remembered = self._frame - self._last <= self.memory + 1
        if not remembered.all():
            self._known.keep(remembered)
            self._embeddings = self._embeddings[remembered]
            self._last, self._row = self._last[remembered], self._row[remembered]
        self._masks = {frame: masks for frame, masks in self._masks.items() if self._frame - frame <= _STAYS}

    def _assign(self, vectors: np.ndarray, overlaps: np.ndarray | None) -> np.ndarray:
        """Return the row of each query's track, int64 [n], -1 where it has none.

        Args:
            vectors: [n, C], of length 1.
            overlaps: IoU of the masks of queries and tracks, [n, tracks]; None: they do not count.
        """
        result = np.full(len(vectors), -1)
        if not len(vectors) or not len(self._last):
            return result
        from scipy.optimize import linear_sum_assignment  # takes a second to import

        similar = np.nan_to_num(vectors @ self._embeddings.T, nan=-1.0)
        if overlaps is not None:
            similar = (1 - self.overlap) * similar + self.overlap * overlaps
        recent = self._last == self._frame - 1
        # What is too unlike counts as no gain, and not as a loss, so that it never decides between others.
        gain = np.where(similar >= self.similarity, similar - self.similarity + _RECENT * recent + 1e-6, 0.0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        alike = similar[rows, columns] >= self.similarity
        result[rows[alike]] = columns[alike]
        return result

    def _overlaps(self, pixels: Tensor, size: Sequence[int]) -> np.ndarray:
        """Return the IoU of masks float32 [n, h * w] of a size (h, w) and the last ones of tracks: [n, tracks]."""
        result = np.zeros((len(pixels), len(self._last)), np.float32)
        for frame, masks in self._masks.items():
            columns = np.flatnonzero(self._last == frame)
            # A film's frames may change their size, and then nothing can be compared.
            if len(columns) and masks.shape[1:] == size:
                last = masks.flatten(1)[torch.from_numpy(self._row[columns])]
                result[:, columns] = mask_iou(pixels, last).numpy()
        return result
