"""A backbone that starts later than the new parts, iteration by iteration."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from mask2former import add_maskformer2_config
from mask2former.engine.optimizer import build_lr_scheduler, build_optimizer


def configuration(warmup: list[int]) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    solver = cfg.SOLVER
    solver.LR_SCHEDULER_NAME, solver.MAX_ITER, solver.BASE_LR, solver.BACKBONE_MULTIPLIER = "WarmupPolyLR", 20, 1.0, 0.5
    solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.BACKBONE_WARMUP = 4, 0.0, warmup
    return cfg


def rates(cfg: CfgNode) -> tuple[list[float], list[float]]:
    """Rates of the new parts and of the backbone, over a training."""
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(cfg.SOLVER.MAX_ITER):
        by_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, values in zip(("head", "backbone"), found, strict=True):
            values.append(by_parameter[id(model[name].weight)])
        optimizer.step()
        schedule.step()
    return found


def test_each_falls_from_the_end_of_its_own_warm_up() -> None:
    new, backbone = rates(configuration([4, 6]))
    rising = [iteration / 4 for iteration in range(4)]
    assert new == pytest.approx([*rising, *((1 - i / 16) ** 0.9 for i in range(16))])
    assert backbone == pytest.approx(
        [0.0] * 4 + [0.5 * i / 6 for i in range(6)] + [0.5 * (1 - i / 10) ** 0.9 for i in range(10)]
    )


def test_without_it_both_keep_one_ratio() -> None:
    new, backbone = rates(configuration([]))
    assert backbone == pytest.approx([rate / 2 for rate in new])


def test_it_goes_on_after_a_checkpoint() -> None:
    cfg = configuration([4, 6])
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    first, second = (build_optimizer(cfg, model) for _ in range(2))
    before, after = (build_lr_scheduler(cfg, optimizer) for optimizer in (first, second))
    for _ in range(7):
        first.step()
        before.step()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    for optimizer, schedule in ((first, before), (second, after)):
        optimizer.step()
        schedule.step()
    assert [g["lr"] for g in second.param_groups] == [g["lr"] for g in first.param_groups]
    assert first.param_groups[0]["lr"] > 0


def test_anything_but_two_numbers_is_refused() -> None:
    cfg = configuration([4])
    with pytest.raises(ValueError, match="two numbers of iterations"):
        build_lr_scheduler(cfg, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0))
