"""Ground truth of one square in each image, changes of it, and the scores of its perfect predictions."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from mask2former.evaluation.instance import InstanceEvaluator

SIDE, NUMBER = 64, 4
SQUARE = [16, 16, 40, 16, 40, 40, 16, 40]
BOX = [16.0, 16.0, 24.0, 24.0]
NAMES = (f"sound_truth_{number}" for number in itertools.count())
Change = Callable[[dict[str, Any]], Any]


def sound() -> dict[str, Any]:
    """One square in each of the images, and a crowd beside it in the first."""
    runs = np.zeros((SIDE, SIDE), np.uint8, order="F")
    runs[50:60, 5:60] = 1
    crowd = {**mask_util.encode(runs), "size": [SIDE, SIDE]}
    crowd["counts"] = crowd["counts"].decode()
    shared = {"category_id": 3, "iscrowd": 0, "area": 576.0, "bbox": BOX, "segmentation": [SQUARE]}
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(1, NUMBER + 1)],
        "categories": [{"id": 3, "name": "square"}, {"id": 8, "name": "other"}],
        "annotations": [
            *({"id": n, "image_id": n, **copy.deepcopy(shared)} for n in range(1, NUMBER + 1)),
            {
                **shared,
                "id": 9,
                "image_id": 1,
                "iscrowd": 1,
                "area": 550,
                "bbox": [5, 50, 55, 10],
                "segmentation": crowd,
            },
        ],
    }


def every(**changes: Any) -> Change:
    return lambda content: [one.update(copy.deepcopy(changes)) for one in content["annotations"][:NUMBER]]


def without(*keys: str) -> Change:
    return lambda content: [one.pop(key) for one in content["annotations"] for key in keys]


def perfect(scorer: InstanceEvaluator, images: Any) -> dict[str, float]:
    """AP of boxes and masks of the square in every image, at scores that differ."""
    scorer.reset()
    for place, image in enumerate(images):
        found = Instances((SIDE, SIDE), scores=torch.tensor([0.9 - 0.1 * place]), pred_classes=torch.tensor([0]))
        found.pred_boxes = Boxes(torch.tensor([[16.0, 16.0, 40.0, 40.0]]))
        found.pred_masks = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
        found.pred_masks[:, 16:40, 16:40] = True
        scorer.process([{"image_id": image["id"], "file_name": "a.png"}], [{"instances": found}])
    results = scorer.evaluate()
    return {f"{kind} {size}": results[kind][size] for kind in ("bbox", "segm") for size in ("AP", "APs")}


EXPECTED = {"bbox AP": 100.0, "bbox APs": 100.0, "segm AP": 100.0, "segm APs": 100.0}  # 576 pixels are small
