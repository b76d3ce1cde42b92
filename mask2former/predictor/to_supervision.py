"""Convert results for the package supervision, which tracks, counts and annotates."""

from __future__ import annotations

from typing import Any

import numpy as np

from mask2former.predictor.arrays import ResultArrays


def to_supervision(result: ResultArrays, task: str | None = None) -> Any:
    """Return a ``supervision.Detections`` with masks, boxes and class names.

    Args:
        result: result of one image.
        task: "instance" or "panoptic" (things and stuff, without scores); if None, the first of them that there is.

    Raises:
        ImportError: the package supervision is not installed.
        ValueError: there are only semantic results, which have no detections.
    """
    try:
        import supervision
    except ImportError:
        raise ImportError("to_supervision() needs the package supervision: pip install supervision") from None
    task = task or next((name for name in ("instance", "panoptic") if name in result.tasks), "semantic")
    if task == "semantic":
        raise ValueError("Semantic results are classes of pixels, not detections.")
    if task == "instance":
        found = result.instances
        masks, boxes, classes, scores = found.masks, found.boxes, found.classes, found.scores
    else:
        masks = np.zeros((len(result.segments), *result.image.shape[:2]), bool)
        for mask, segment in zip(masks, result.segments, strict=True):
            mask[:] = result.panoptic == segment["id"]
        boxes = supervision.mask_to_xyxy(masks).astype(np.float32)
        classes, scores = np.array([s["class_id"] for s in result.segments], np.int64), None
    return supervision.Detections(
        xyxy=boxes,
        mask=masks,
        confidence=scores,
        class_id=classes,
        data={"class_name": np.array([result.class_name(number) for number in classes.tolist()])},
    )
