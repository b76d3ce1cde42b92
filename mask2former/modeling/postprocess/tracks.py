"""Results of a clip: its most probable tracks, each a mask in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class FrameMasks(Protocol):
    """Masks of one frame, such as :class:`~mask2former.modeling.postprocess.ResizedMasks`."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the masks."""

    def __call__(self, queries: Tensor) -> Tensor:
        """Compute mask logits [n, H, W] of queries [n]."""


def track_results(
    class_logits: Tensor, frames: Sequence[FrameMasks], num_tracks: int, weights: Tensor | None = None
) -> dict[str, Any]:
    """Return the ``num_tracks`` most probable (query, class) pairs of a clip, best first, or all if there are fewer.

    Only masks of these are computed, one frame at a time, so that memory beyond the result is that of one frame.

    Args:
        class_logits: [Q, K + 1].
        frames: mask logits of each of the T frames, of one size.
        num_tracks: number of pairs; a query may be in several, with different classes.
        weights: [Q], factors of the scores; None: 1.

    Returns:
        The published form, on the CPU: ``image_size`` (H, W), ``pred_scores`` [n] floats (the class probability alone,
        times the weight), ``pred_labels`` [n] ints in [0, K), and ``pred_masks``, n tensors bool [T, H, W].
    """
    num_classes = class_logits.shape[-1] - 1
    probability = class_logits.float().softmax(-1)[:, :-1]
    if weights is not None:
        probability = probability * weights[:, None]
    scores, pairs = probability.flatten().topk(min(num_tracks, probability.numel()))
    queries, place = (pairs // num_classes).unique(return_inverse=True)
    place = place.cpu()
    size = frames[0].size
    masks = torch.zeros((len(pairs), len(frames), *size), dtype=torch.bool)
    if len(pairs):
        for number, frame in enumerate(frames):
            masks[:, number] = (frame(queries) > 0).cpu()[place]
    return {
        "image_size": size,
        "pred_scores": scores.tolist(),
        "pred_labels": (pairs % num_classes).tolist(),
        "pred_masks": list(masks.unbind()),
    }
