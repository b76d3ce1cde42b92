"""Compare results in two number formats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import Setting, ours

MATCHED = 0.5  # IoU above which two segments of one class are the same (arXiv 1801.00868)


def agreement(setting: Setting, device: torch.device) -> dict[str, Any]:
    """Compare the panoptic results in ``setting.dtype`` with those in float32.

    Returns:
        Number of segments, panoptic quality in [0, 1] with float32 as the truth, and mean IoU of the matched segments.
    """
    setting = replace(setting, task="panoptic", compile="")
    results = [ours(replace(setting, dtype=dtype), device.type) for dtype in ("float32", setting.dtype)]
    images = setting.images()
    pairs = zip(*(one.run(images) for one in results), strict=True)
    found = [compare(*(result["panoptic_seg"] for result in pair)) for pair in pairs]
    matched = [iou for ious, _ in found for iou in ious]
    segments = sum(count for _, count in found)
    return {
        "segments of float32 and of this format, together": segments,
        "panoptic quality against float32": 2 * sum(matched) / segments if segments else 1.0,
        "mean IoU of those that are in both": sum(matched) / len(matched) if matched else 1.0,
    }


Panoptic = tuple[Tensor, list[dict[str, Any]]]


def compare(one: Panoptic, two: Panoptic) -> tuple[list[float], int]:
    """Return the IoUs above MATCHED of segments of one class, and the total number of segments in both results."""
    ious = []
    for mine in one[1]:
        for yours in two[1]:
            if mine["category_id"] != yours["category_id"]:
                continue
            masks = one[0] == mine["id"], two[0] == yours["id"]
            iou = (masks[0] & masks[1]).sum().item() / (masks[0] | masks[1]).sum().item()
            if iou > MATCHED:
                ious.append(iou)
    return ious, len(one[1]) + len(two[1])
