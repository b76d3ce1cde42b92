"""`torch.compile` makes one graph of each part of the network, whether sizes are fixed or change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch._dynamo.testing import CompileCounter

from mask2former.config import load_config
from mask2former.data import register_all

CONFIGS = Path(__file__).parents[2] / "configs"
RESNET, SWIN = "quickstart/panoptic", "coco/panoptic/swin"
SMALL_SWIN = ["MODEL.SWIN.EMBED_DIM", "16", "MODEL.SWIN.DEPTHS", "(2, 1, 1, 1)", "MODEL.SWIN.NUM_HEADS", "(1, 2, 4, 8)"]
SMALL_SWIN += ["MODEL.SWIN.DROP_PATH_RATE", "0.0"]  # which draws lots in training
OPTIONS = {RESNET: [], SWIN: SMALL_SWIN}
SIZES = [(128, 160), (160, 224), (192, 128)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("config", "dynamic"),
    [(RESNET, False), (RESNET, True), (SWIN, False), pytest.param(SWIN, True, marks=pytest.mark.slow)],
)
def test_no_graph_breaks(config: str, dynamic: bool, training: bool, small_options: list[str]) -> None:
    register_all("datasets")
    torch._dynamo.reset()
    model: Any = build_model(load_config(str(CONFIGS / f"{config}.yaml"), [*small_options, *OPTIONS[config]]))
    model.train(training)
    graphs = CompileCounter(), CompileCounter()
    backbone, head = (
        torch.compile(part, backend=counter, fullgraph=True, dynamic=dynamic)  # fullgraph: an error where it breaks
        for part, counter in zip((model.backbone, model.sem_seg_head), graphs, strict=True)
    )
    with torch.set_grad_enabled(training):
        for size in SIZES if dynamic else SIZES[:1]:
            images = torch.randn(1, 3, *size)
            found, expected = head(backbone(images)), model.sem_seg_head(model.backbone(images))
            torch.testing.assert_close(found.class_logits, expected.class_logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found.masks.logits(), expected.masks.logits(), atol=1e-3, rtol=1e-3)
    at_most = 2 if dynamic else 1  # PyTorch first takes for given some of what was true of the first size
    assert all(0 < counter.frame_count <= at_most for counter in graphs)
