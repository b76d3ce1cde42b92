"""Marking of some objects of a training image by a coarse mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable

from mask2former.data.guide.coarse import KINDS, coarse_mask

LEAST_PIXELS = 4  # of an object that is marked


class Marking:
    """Choose objects of an image at random, and draw the coarse mask that marks them.

    Random numbers come from NumPy's, which the loader seeds for each image.

    Args:
        kinds: kinds of coarse masks, all equally often; those of one image are of one kind.
        none: share of the images without a mask.
        most_objects: most objects that are marked; one is in half of the images.

    Raises:
        ValueError: an unknown kind, a share outside of [0, 1], or fewer than one object.
    """

    @configurable
    def __init__(self, *, kinds: Sequence[str], none: float, most_objects: int) -> None:
        if not kinds or any(kind not in KINDS for kind in kinds):
            raise ValueError(f"MODEL.MASK_ENCODER.KINDS is {list(kinds)}; choose some of {', '.join(KINDS)}.")
        if not 0 <= none <= 1:
            raise ValueError(f"MODEL.MASK_ENCODER.NONE is {none}; it is a share, from 0 to 1.")
        if most_objects < 1:
            raise ValueError(f"MODEL.MASK_ENCODER.MOST_OBJECTS is {most_objects}; it has to be at least 1.")
        self.kinds = tuple(kinds)
        self.none = none
        self.most_objects = most_objects

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.MASK_ENCODER
        return {"kinds": node.KINDS, "none": node.NONE, "most_objects": node.MOST_OBJECTS}

    def __call__(self, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Mark some of the objects.

        Args:
            masks: [N, H, W] bool.

        Returns:
            Their indices, ascending, and the coarse mask of all of them, uint8 [H, W] of 0 and 1; None: no mask, as for
            images without an object.
        """
        rng = np.random.default_rng(np.random.randint(2**31))
        large = np.flatnonzero(np.count_nonzero(masks, axis=(1, 2)) >= LEAST_PIXELS)
        if rng.random() < self.none or not len(large):
            return None
        count = 1 if rng.random() < 0.5 else int(rng.integers(1, self.most_objects + 1))
        chosen = np.sort(rng.permutation(large)[:count])
        kind = self.kinds[rng.integers(len(self.kinds))]
        coarse = np.any([coarse_mask(masks[index], kind, rng) for index in chosen], axis=0)
        return chosen, coarse.astype(np.uint8)
