"""Read a model's outputs for one image into arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mask2former.predictor.arrays import InstanceArrays
from mask2former.tiling import whole_masks
from mask2former.visualization import INSTANCE_THRESHOLD

Json = dict[str, Any]


def read_panoptic(
    output: tuple[Any, list[Json]], ids: Mapping[bool, Mapping[int, int]], class_name: Callable[[int], str]
) -> tuple[np.ndarray, list[Json]]:
    """Return the ids of the pixels' segments, int32 [H, W], and the segments.

    Args:
        output: Detectron2's ``panoptic_seg``.
        ids: class number -> category id in the data set, of things (True) and of stuff (False).
        class_name: tells the name of a class by its number.
    """
    pixels = output[0].cpu().numpy().astype(np.int32, copy=False)
    areas = np.bincount(pixels.ravel())
    segments = []
    for s in output[1]:
        number, isthing = int(s["category_id"]), bool(s["isthing"])
        segment = {"id": int(s["id"]), "category_id": ids[isthing].get(number, number), "class_id": number}
        track = {"track_id": int(s["track_id"])} if "track_id" in s else {}
        name, area = class_name(number), int(areas[s["id"]])
        segments.append({**segment, "isthing": isthing, **track, "name": name, "area": area})
    return pixels, segments


def read_instances(output: Any, threshold: float | None) -> InstanceArrays:
    """Return the objects with a score of at least the threshold (0.5 if None), the best first."""
    threshold = INSTANCE_THRESHOLD if threshold is None else threshold
    best = output.scores.argsort(descending=True, stable=True)
    best = best[output.scores[best] >= threshold]
    masks = whole_masks(output, best.tolist()) if output.has("mask_crops") else output.pred_masks[best]
    return InstanceArrays(
        masks=masks.cpu().numpy().astype(bool, copy=False),
        boxes=output.pred_boxes.tensor[best.to(output.pred_boxes.device)].cpu().numpy(),
        classes=output.pred_classes[best].cpu().numpy(),
        scores=output.scores[best].cpu().numpy(),
        tracks=output.track_ids[best].cpu().numpy() if output.has("track_ids") else None,
    )


def read_semantic(output: Any) -> np.ndarray:
    """Return the number of each pixel's class, int32 [H, W]."""
    return output.cpu().numpy().astype(np.int32)
