"""Link all queries of a frame to those of the frame before it, as MinVIS does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.tracking.places import mask_iou


class QueryLinker:
    """Link each query to one of the next frame: one to one, at the greatest sum of similarities.

    This is section 3.2 of MinVIS (arXiv 2208.02245): there are as many tracks as queries, each as long as the clip, and
    queries that mean nothing are linked as well. The embeddings are those that make the masks.

    Args:
        overlap: share w of the masks' overlap in what links, ``(1 - w) * cosine + w * IoU``, 0 to 1.
    """

    def __init__(self, overlap: float = 0.0) -> None:
        self.overlap = overlap
        self._last: tuple[Tensor, Tensor | None] | None = None

    @torch.no_grad()
    def step(self, embeddings: Tensor, masks: Tensor | None = None) -> Tensor:
        """Link the next frame.

        Args:
            embeddings: [Q, C].
            masks: bool [Q, h, w], at any one size; needed for ``overlap``.

        Returns:
            [Q] int64, on the CPU: the query that shows track 0, track 1, ... in this frame.
        """
        from scipy.optimize import linear_sum_assignment  # takes a second to import

        unit = F.normalize(embeddings.float(), dim=-1)
        place = masks.flatten(1) if self.overlap and masks is not None else None
        if self._last is None:
            order = torch.arange(len(unit))
        else:
            before, place_before = self._last
            similar = before @ unit.T
            if place is not None and place_before is not None:
                similar = (1 - self.overlap) * similar + self.overlap * mask_iou(place_before, place)
            order = torch.from_numpy(linear_sum_assignment(similar.cpu().numpy(), maximize=True)[1])
        rows = order.to(unit.device)
        self._last = (unit[rows], None if place is None else place[rows])
        return order
