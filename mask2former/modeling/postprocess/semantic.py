"""Semantic results."""

from __future__ import annotations

import torch
from torch import Tensor

from mask2former.labels import argmax_labels


class SemanticScores:
    """Sum over queries of class probability times mask probability (MaskFormer, arXiv 2107.06278, section 3.4).

    Args:
        class_logits: [Q, K + 1].
        size: (H, W) of the result.

    Raises:
        ValueError: there are no queries.
    """

    def __init__(self, class_logits: Tensor, size: tuple[int, int]) -> None:
        if not len(class_logits):
            raise ValueError("SemanticScores: there are no queries.")
        probability = class_logits.float().softmax(-1)[:, :-1]
        self.queries = torch.arange(len(probability), device=probability.device)
        self.probability = probability.T  # [K, Q]
        self.scores = probability.new_zeros(probability.shape[1], *size)

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        width = self.scores.shape[2]
        part = self.scores.flatten(1)[:, rows.start * width : rows.stop * width]
        with torch.autocast(part.device.type, enabled=False):
            part.addmm_(self.probability[:, own], probability.flatten(1))

    def result(self) -> Tensor:
        """Return scores [K, H, W] float32."""
        return self.scores


class SemanticLabels(SemanticScores):
    """Class of the greatest semantic score at each pixel, without ever holding the scores of the whole image.

    Each chunk must hold the masks of all queries, as those of :class:`~mask2former.modeling.postprocess.ResizedMasks`
    do.

    Raises:
        ValueError: there are no queries, or a chunk lacks some of them.
    """

    def __init__(self, class_logits: Tensor, size: tuple[int, int]) -> None:
        super().__init__(class_logits, (0, size[1]))
        self.labels = torch.zeros(size, dtype=torch.int16, device=class_logits.device)

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        if len(probability) != len(self.queries):
            raise ValueError(f"SemanticLabels: {len(probability)} of {len(self.queries)} queries came by themselves.")
        self.scores = self.scores.new_zeros(len(self.scores), *probability.shape[1:])
        super().add(own, slice(0, probability.shape[1]), logits, probability)
        self.labels[rows] = argmax_labels(self.scores)

    def result(self) -> Tensor:
        """Return labels int16 [H, W]."""
        return self.labels
