"""Tracks as rows of arrays, whatever links them: their numbers, and their classes so far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


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


class KnownTracks:
    """The tracks that may go on, a row each; new ones come last."""

    def __init__(self) -> None:
        self._numbers = np.zeros(0, np.int64)
        self._frames = np.zeros(0, np.int64)  # in which each was seen
        self._class_logits = torch.zeros(0, 0)  # [n, K + 1], their sum over these frames
        self._count = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def begin(self, rows: np.ndarray, begins: np.ndarray) -> None:
        """Begin tracks, and put their rows into ``rows``, in place.

        Args:
            rows: [n] int64, the row of each candidate's track; -1: it has none.
            begins: [n] bool, candidates that begin one.
        """
        new = int(begins.sum())
        rows[begins] = len(self) + np.arange(new)
        self._numbers = np.concatenate([self._numbers, self._count + 1 + np.arange(new)])
        self._frames = np.concatenate([self._frames, np.zeros(new, np.int64)])
        self._count += new

    def add(self, rows: np.ndarray, queries: Tensor, class_logits: Tensor, frames: int | np.ndarray = 1) -> FrameTracks:
        """Add what a frame, or a window of several, shows of tracks, and return the tracks in it.

        Args:
            rows: [n] int64.
            queries: [n] int64 on the CPU, the query that shows each.
            class_logits: [Q, K + 1], of all queries.
            frames: how many frames are new, of all or of each [n].
        """
        new = np.broadcast_to(np.asarray(frames), rows.shape)
        where = torch.from_numpy(rows)
        logits = class_logits.float().cpu()
        known = len(self._class_logits)
        if not known or known < len(self):
            more = logits.new_zeros((len(self) - known, logits.shape[1]))
            self._class_logits = torch.cat([self._class_logits, more]) if known else more
        self._frames[rows] += new
        self._class_logits[where] += logits[queries] * torch.tensor(new)[:, None]
        means = self._class_logits[where] / torch.from_numpy(self._frames[rows])[:, None]
        device = class_logits.device
        return FrameTracks(queries.to(device), self._numbers[rows].tolist(), means.to(device))

    def keep(self, rows: np.ndarray) -> None:
        """Forget all tracks but these rows, given as int64 [n] or as bool for each."""
        self._numbers, self._frames = self._numbers[rows], self._frames[rows]
        self._class_logits = self._class_logits[torch.from_numpy(rows)]
