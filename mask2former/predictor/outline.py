"""Outlines by a model with a mask encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


@torch.no_grad()
def outline_of(model: Any, inputs: dict[str, Any]) -> np.ndarray:
    """Return the union of the masks that are objects by more than half, or the likeliest one if none is: bool [H, W].

    Args:
        model: with a mask encoder.
        inputs: one image with its ``mask``.
    """
    ((class_logits, masks),) = model.predict([inputs])
    likely = 1 - class_logits.float().softmax(-1)[:, -1]
    chosen = (likely > 0.5).nonzero().flatten() if bool((likely > 0.5).any()) else likely.argmax()[None]
    return (masks(chosen) > 0).any(0).cpu().numpy()
