"""The whole of it learns: two images by heart, from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, detection_utils
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.modeling import build_model

from mask2former.config import load_config
from mask2former.data import Mapper, register_all
from mask2former.engine.optimizer import build_optimizer

ROOT = Path(__file__).parents[2]
SMALL = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "64", "MODEL.SEM_SEG_HEAD.MASK_DIM", "64"),
    *("MODEL.MASK_FORMER.HIDDEN_DIM", "64", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "1024"),
]


def test_loss_falls() -> None:
    """One batch of rectangles, forty steps: the loss of every kind and of every layer falls."""
    from detectron2.structures import BitMasks, Instances

    MetadataCatalog.get("rectangles").thing_dataset_id_to_contiguous_id = {1: 0}
    config = str(ROOT / "configs/quickstart/panoptic.yaml")
    cfg = load_config(config, [*SMALL, "DATASETS.TRAIN", "('rectangles',)", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "2"])
    batch = []
    for left in (4, 24):
        masks = torch.zeros(2, 64, 64, dtype=torch.bool)
        masks[0, 10:40, left : left + 30] = True
        masks[1] = ~masks[0]
        instances = Instances((64, 64), gt_masks=BitMasks(masks), gt_classes=torch.tensor([0, 1]))
        batch.append({"image": (masks[0] * 200).to(torch.uint8).expand(3, -1, -1), "instances": instances})
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    history: list[dict[str, float]] = []
    for _ in range(40):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in history[0]:
        first, last = (np.mean([step[name] for step in part]) for part in (history[:3], history[-3:]))
        assert last < 0.9 * first, (name, first, last)


def _learn_by_heart(cfg: CfgNode, steps: int) -> tuple[torch.nn.Module, list[dict[str, Any]]]:
    """Train on the first two images of the training set alone, mapped once."""
    records = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])[:2]
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, cfg.SOLVER.BASE_LR, total_steps=steps, pct_start=0.1)
    mapper = Mapper(cfg, True)
    batch = [mapper(record) for record in records]
    for _ in range(steps):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE)
        optimizer.step()
        schedule.step()
    return model.eval(), records


@pytest.mark.slow
def test_coco_images_by_heart(data_root: Path) -> None:
    """PQ above 90 on the two images that were trained on, by the official evaluation."""
    register_all(str(data_root))
    torch.manual_seed(0)
    cfg = load_config(
        str(ROOT / "configs/quickstart/panoptic.yaml"),
        [
            *("MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "133"),
            *("DATASETS.TRAIN", "('coco_sample_panoptic',)"),
            *("INPUT.MIN_SIZE_TRAIN", "(384,)", "INPUT.MIN_SIZE_TEST", "384", "INPUT.RANDOM_FLIP", "none"),
            *("SOLVER.BASE_LR", "0.001", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "2048"),
            *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.5"),
        ],
    )
    model, records = _learn_by_heart(cfg, steps=420)
    evaluator = COCOPanopticEvaluator("coco_sample_panoptic")
    evaluator.reset()
    mapper = Mapper(cfg, False)
    with torch.no_grad():
        for record in records:
            image = detection_utils.read_image(record["file_name"])
            inputs = {**mapper(record), "height": image.shape[0], "width": image.shape[1]}
            evaluator.process([inputs], model([inputs]))
    scores = evaluator.evaluate()["panoptic_seg"]
    assert scores["PQ"] > 90, scores
