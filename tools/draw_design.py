#!/usr/bin/env python3
"""Draw the images of docs/design.md, which show the quickstart model's steps from an image to segments.

draw_design.py MODEL.WEIGHTS output/quickstart/panoptic/model_final.pth
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog
from torch import Tensor

import mask2former
from mask2former.config import load_config
from mask2former.data.images.read import read_image
from mask2former.predictor import Predictor
from mask2former.structures import MaskPrediction, resize_frames

ROOT = Path(mask2former.__file__).parents[1]
FOLDER = ROOT / "docs" / "design"
NUMBER = 4  # number of queries shown
IMAGE = 2  # index in the validation set
GAP = 8  # pixels between drawings
HEIGHT = 384  # pixels; smaller drawings are enlarged


@torch.no_grad()
def main() -> None:
    predictor = Predictor(load_config(str(ROOT / "configs/quickstart/panoptic.yaml"), sys.argv[1:]))
    kept: dict[str, object] = {}
    decoder = predictor.model.sem_seg_head.predictor
    decoder.register_forward_hook(lambda _, inputs, output: kept.update(levels=inputs[0], prediction=output))
    image = read_image(DatasetCatalog.get("quickstart_val_panoptic")[IMAGE]["file_name"], "RGB")
    drawn = predictor(image).draw("panoptic")
    prediction = kept["prediction"]
    assert isinstance(prediction, MaskPrediction)

    queries = best_queries(prediction, image.shape[:2])
    FOLDER.mkdir(exist_ok=True)
    save("image", [image])
    save("masks", [heat(mask, image) for mask in prediction.masks.logits(0, queries)[:, 0].sigmoid()])
    for name, layer in (("attention_first", 0), ("attention_last", len(prediction.aux) - 1)):
        level = kept["levels"][layer % 3]  # type: ignore[index]
        logits = prediction.aux[layer].masks.logits(0, queries)
        inside = resize_frames(logits, level.shape[-2:])[:, 0] >= 0
        save(name, [dim(mask, image) for mask in inside])
    save("panoptic", [drawn])


def best_queries(prediction: MaskPrediction, size: tuple[int, ...]) -> Tensor:
    """Return the queries of the highest scores whose masks cover neither almost nothing nor most of the image."""
    scores = prediction.class_logits[0].softmax(-1)[:, :-1].amax(-1)
    share = (prediction.masks.logits(0)[:, 0] > 0).float().mean((1, 2))
    return (scores * ((share > 0.01) & (share < 0.6))).topk(NUMBER).indices


def heat(probability: Tensor, image: np.ndarray) -> np.ndarray:
    """Draw a mask's probability from dark blue (0) to yellow (1), at the image's size."""
    height, width = image.shape[:2]
    enlarged = cv2.resize((255 * probability).byte().numpy(), (width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.applyColorMap(enlarged, cv2.COLORMAP_VIRIDIS)[:, :, ::-1]


def dim(inside: Tensor, image: np.ndarray) -> np.ndarray:
    """Darken the image where a query may not attend."""
    height, width = image.shape[:2]
    enlarged = cv2.resize(inside.byte().numpy(), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.where(enlarged[:, :, None] > 0, image, image // 5)


def save(name: str, drawings: list[np.ndarray]) -> None:
    """Write drawings side by side to docs/design/NAME.jpg."""
    height = drawings[0].shape[0]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    row = np.concatenate([part for drawing in drawings for part in (drawing, gap)][:-1], axis=1)
    factor = max(1, HEIGHT // height)
    row = cv2.resize(row, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    file = FOLDER / f"{name}.jpg"
    cv2.imwrite(str(file), row[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(file)


if __name__ == "__main__":
    main()
