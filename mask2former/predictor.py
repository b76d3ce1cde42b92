"""One trained model, one picture at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.data.augmentation import ResizeShortestEdge
from mask2former.visualization import RESULTS
from mask2former.zoo import weights_file


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
        DownloadError: it cannot be had from the network.
    """

    def __init__(self, cfg: CfgNode) -> None:
        weights = _weights(cfg.MODEL.WEIGHTS)  # before the model, which takes a while to build
        if not cfg.DATASETS.TEST:
            raise ValueError("DATASETS.TEST names no data set; classes get their names and colours from one.")
        self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.tasks = [task for task in RESULTS if cfg.MODEL.MASK_FORMER.TEST[f"{task.upper()}_ON"]]
        self.model = build_model(cfg).eval()
        MaskFormerCheckpointer(self.model).load(weights)
        self._bgr = cfg.INPUT.FORMAT == "BGR"
        self._resize = ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, picture: np.ndarray) -> dict[str, Any]:
        """The model's output for a picture [H, W, 3], uint8, RGB, of any size; masks have its size."""
        height, width = picture.shape[:2]
        pixels = np.ascontiguousarray(picture[:, :, ::-1]) if self._bgr else picture
        resized = self._resize.get_transform(pixels).apply_image(pixels)
        image = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return self.model([{"image": image, "height": height, "width": width}])[0]


def _weights(weights: str) -> str:
    if not weights:
        raise ValueError(
            "MODEL.WEIGHTS is empty: name the trained weights, such as MODEL.WEIGHTS output/model_final.pth or "
            "coco/panoptic/r50"
        )
    return weights_file(weights)
