"""One trained model, one picture at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.visualization import RESULTS


class Predictor:
    """Builds the model of a configuration, loads ``MODEL.WEIGHTS`` and runs it on pictures.

    Register data sets first (``mask2former.data.register_all``): the model takes from them which classes are things.

    Attributes:
        model: in evaluation mode, on ``MODEL.DEVICE``.
        metadata: of the first data set of ``DATASETS.TEST``: names and colours of classes.
        tasks: the results that it gives: some of "panoptic", "instance", "semantic".

    Raises:
        ValueError: no weights or no data set are named.
        FileNotFoundError: the file of weights is not there.
    """

    def __init__(self, cfg: CfgNode) -> None:
        _require_weights(cfg.MODEL.WEIGHTS)
        if not cfg.DATASETS.TEST:
            raise ValueError("DATASETS.TEST names no data set; classes get their names and colours from one.")
        self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.tasks = [task for task in RESULTS if cfg.MODEL.MASK_FORMER.TEST[f"{task.upper()}_ON"]]
        self.model = build_model(cfg).eval()
        MaskFormerCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self._bgr = cfg.INPUT.FORMAT == "BGR"
        self._resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, picture: np.ndarray) -> dict[str, Any]:
        """The model's output for a picture [H, W, 3], uint8, RGB, of any size; masks have its size."""
        height, width = picture.shape[:2]
        pixels = np.ascontiguousarray(picture[:, :, ::-1]) if self._bgr else picture
        resized = self._resize.get_transform(pixels).apply_image(pixels)
        image = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return self.model([{"image": image, "height": height, "width": width}])[0]


def _require_weights(weights: str) -> None:
    if not weights:
        raise ValueError(
            "MODEL.WEIGHTS is empty: name the trained weights, such as MODEL.WEIGHTS output/model_final.pth"
        )
    if "://" not in weights and not Path(weights).expanduser().is_file():
        raise FileNotFoundError(
            f"{weights}: no such file of weights (MODEL.WEIGHTS). Train first, or correct the path."
        )
