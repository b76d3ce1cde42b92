"""The quickstart's small kMaX-DeepLab takes training steps with all its losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

from mask2former.config import load_config

FILE = Path(__file__).parents[3] / "configs" / "quickstart" / "kmax.yaml"
WITHOUT_DATA = ["MODEL.DEVICE", "cpu", "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", False, "DATASETS.TRAIN", "()"]
FEW = ["MODEL.KMAX_DEEPLAB.PIXEL_INSDIS_SAMPLE_K", 128]


def squares(size: tuple[int, int]) -> dict[str, Any]:
    """Two bright squares of two things on stuff, below a void stripe."""
    masks = torch.zeros(3, *size, dtype=torch.bool)
    masks[0, 10:30, 8:32], masks[1, 34:60, 20:50] = True, True
    masks[2] = ~masks.any(0)
    masks[2, :8] = False
    instances = Instances(size)
    instances.gt_classes, instances.gt_masks = torch.tensor([0, 3, 11]), masks
    image = torch.rand(3, *size) * 40
    for channel, mask in zip(image, masks, strict=True):
        channel[mask] += 180
    return {"image": image, "instances": instances}


def test_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = build_model(load_config(str(FILE), WITHOUT_DATA + FEW)).train()
    assert type(model.criterion).__name__ == "PQCriterion"
    batch = [squares((65, 65)), squares((65, 60))]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    history: list[dict[str, float]] = []
    for step in range(20):
        losses = model(batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        if not step:
            trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
            assert all(grad is not None and torch.isfinite(grad).all() for grad in trained.values())
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
        assert all(torch.isfinite(loss) for loss in losses.values())
    names = ("loss_ce", "loss_dice", "loss_mask", "loss_pixel_insdis")
    expected = {f"{name}{suffix}" for name in names for suffix in ("", *(f"_{layer}" for layer in range(6)))}
    assert set(history[0]) == expected | {"loss_aux_semantic", "loss_place"}
    assert sum(history[-1].values()) < 0.95 * sum(history[0].values())
    assert history[-1]["loss_aux_semantic"] < 0.5 * history[0]["loss_aux_semantic"]
    assert history[-1]["loss_mask"] < history[0]["loss_mask"]
