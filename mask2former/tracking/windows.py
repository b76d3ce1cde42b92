"""Join the tracks of overlapping windows of a film, which a clip model saw one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mask2former.modeling.postprocess import ResizedMasks
from mask2former.tracking.known import FrameTracks, KnownTracks
from mask2former.tracking.places import coarse_masks, mask_iou, without_duplicates


class WindowLinker:
    """Number the objects of a clip model in windows that share frames.

    A query of a window goes on with a track of the window before if their masks in the shared frames overlap: they are
    assigned one to one at the greatest sum of IoUs, each over all shared frames together. An object that no shared
    frame shows ends its track. Only the last window's tracks are kept, whatever the film's length.

    Args:
        start: a query without a track begins one if its probability of being an object is at least this; one of less
            than half of it never goes on with a track.
        least: the least IoU of a query and its track, 0 to 1.
        duplicates: a query whose masks and those of a more probable one have a greater IoU than this, over all frames
            of the window together, takes no part, 0 to 1; 1: all take part.

    Raises:
        ValueError: a value outside of its range.
    """

    def __init__(self, start: float = 0.5, least: float = 0.3, duplicates: float = 1.0) -> None:
        if not 0 <= start <= 1 or not 0 < least <= 1 or not 0 <= duplicates <= 1:
            raise ValueError(
                f"WindowLinker: start is {start}, least {least} and duplicates {duplicates}; all are shares, and least "
                "is above 0."
            )
        self.start, self.least, self.duplicates = start, least, duplicates
        self._known = KnownTracks()
        self._masks: list[Tensor] = []  # bool [tracks, h, w], in each frame that the next window may share

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
        objectness = 1 - class_logits.float().cpu().softmax(-1)[:, -1]
        queries = (objectness >= self.start / 2).nonzero().flatten()
        of_masks = queries.to(class_logits.device)
        kept = _last(len(frames), keep)
        wanted = range(len(frames)) if self.duplicates < 1 else {*range(shared), *kept}
        masks = {t: coarse_masks(frames[t], of_masks).cpu() for t in wanted}
        if self.duplicates < 1:
            pixels = torch.cat([of_frame.flatten(1) for of_frame in masks.values()], 1).float()
            stays = torch.from_numpy(without_duplicates(objectness[queries], pixels, self.duplicates))
            queries, masks = queries[stays], {t: of_frame[stays] for t, of_frame in masks.items()}
        rows = self._assign([masks[t] for t in range(shared)], len(queries))
        goes_on = rows >= 0
        self._known.begin(rows, ~goes_on & (objectness[queries] >= self.start).numpy())
        tracked = rows >= 0
        new = np.where(goes_on, len(frames) - shared, len(frames))[tracked]
        found = self._known.add(rows[tracked], queries[torch.from_numpy(tracked)], class_logits, new)
        self._known.keep(rows[tracked])
        self._masks = [masks[t][torch.from_numpy(tracked)] for t in kept]
        return found

    def _assign(self, masks: list[Tensor], count: int) -> np.ndarray:
        """Return the row of each query's track, int64 [count], -1 where it has none.

        Args:
            masks: bool [count, h, w], in each shared frame.
        """
        result = np.full(count, -1)
        if not masks or not len(self._known) or not count:
            return result
        from scipy.optimize import linear_sum_assignment  # takes a second to import

        known = torch.cat([of_frame.flatten(1) for of_frame in self._masks[-len(masks) :]], 1)
        iou = mask_iou(torch.cat([of_frame.flatten(1) for of_frame in masks], 1), known).numpy()
        rows, columns = linear_sum_assignment(np.where(iou >= self.least, iou, 0.0), maximize=True)
        alike = iou[rows, columns] >= self.least
        result[rows[alike]] = columns[alike]
        return result


def _last(length: int, count: int) -> range:
    return range(max(0, length - count), length)
