"""Weights of kMaX-DeepLab, published and ours: the names are the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_CENTRES = "sem_seg_head.predictor._cluster_centers.weight"
_VARIANCE, _COUNT = "running_var", "num_batches_tracked"


def is_kmax(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of kMaX-DeepLab."""
    return _CENTRES in state


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with a count of training steps for each batch norm, which published files have."""
    counts = {
        name.replace(_VARIANCE, _COUNT): torch.tensor(0)
        for name in state
        if name.endswith(_VARIANCE) and name.replace(_VARIANCE, _COUNT) not in state
    }
    return {**state, **counts}


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse, because there is no such model.

    Raises:
        ValueError: always.
    """
    raise ValueError('Hugging Face has no kMaX-DeepLab; take the target "published" or "ours".')
