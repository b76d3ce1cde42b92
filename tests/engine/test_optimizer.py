"""Parameter groups, clipping and schedule against slow, obvious computations."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mask2former.config import load_config
from mask2former.engine.optimizer import (
    WarmupPoly,
    WarmupThenPoly,
    build_lr_scheduler,
    build_optimizer,
    parameter_groups,
)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.ones(3))
        self.proj = nn.Linear(2, 2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv = nn.Conv2d(1, 2, 1)
        self.backbone.norm = nn.BatchNorm2d(2)
        self.backbone.attention = Attention()
        self.backbone.absolute_pos_embed = nn.Parameter(torch.ones(4))
        self.backbone.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.GroupNorm(1, 2))
        self.queries = nn.Embedding(5, 2)
        self.level_embed = nn.Parameter(torch.ones(3, 2))
        self.same = self.head[0]  # the same module under another name
        self.tied = nn.Linear(2, 2, bias=False)  # another module with the same parameter
        self.tied.weight = self.head[0].weight
        self.scale = nn.Parameter(torch.ones(1))


EXPECTED = {  # by hand: (is backbone, weight decay)
    "backbone.conv.weight": (True, 0.05),
    "backbone.conv.bias": (True, 0.05),
    "backbone.norm.weight": (True, 0.01),
    "backbone.norm.bias": (True, 0.01),
    "backbone.attention.relative_position_bias_table": (True, 0.0),
    "backbone.attention.proj.weight": (True, 0.05),
    "backbone.attention.proj.bias": (True, 0.05),
    "backbone.absolute_pos_embed": (True, 0.0),
    "head.0.weight": (False, 0.05),
    "head.0.bias": (False, 0.05),
    "head.1.weight": (False, 0.01),
    "head.1.bias": (False, 0.01),
    "head.2.weight": (False, 0.01),
    "head.2.bias": (False, 0.01),
    "queries.weight": (False, 0.02),
    "level_embed": (False, 0.05),
    "scale": (False, 0.05),
}


def config(*options):
    rates = ["SOLVER.BASE_LR", "0.001", "SOLVER.BACKBONE_MULTIPLIER", "0.1"]
    decays = ["SOLVER.WEIGHT_DECAY", "0.05", "SOLVER.WEIGHT_DECAY_NORM", "0.01", "SOLVER.WEIGHT_DECAY_EMBED", "0.02"]
    return load_config(None, [*rates, *decays, "MODEL.DEVICE", "cpu", *options])


def test_each_parameter_has_its_published_rate_and_decay():
    model = Model()
    groups = parameter_groups(config(), model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found == {name: (0.001 * (0.1 if slow else 1.0), decay) for name, (slow, decay) in EXPECTED.items()}
    assert sum(len(group["params"]) for group in groups) == len(EXPECTED)  # each once, the frozen ones never


class Deep(nn.Module):
    """A backbone with layer-wise decay: every layer learns at half the rate of the next one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(2))
        self.norm = nn.LayerNorm(2)
        self.asked = []

    def lr_scale(self, parameter_name):
        self.asked.append(parameter_name)
        depth = {"stem": 0, "blocks.0": 1, "blocks.1": 2, "norm": 3}
        return 0.5 ** (3 - next(layer for prefix, layer in depth.items() if parameter_name.startswith(prefix)))


def test_a_module_scales_the_rates_of_its_parameters():
    """Factors are multiplied down the tree, with the multiplier of backbones; a neighbour of like name has none."""
    model = nn.Module()
    model.backbone, model.backbone2 = Deep(), nn.Linear(2, 2)
    model.backbone.blocks[1].lr_scale = lambda name: 3.0 if name == "0.bias" else 1.0
    model.head = nn.Linear(2, 2)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(config(), model)
    found = {names[p]: group["lr"] / 0.001 for group in groups for p in group["params"]}
    expected = {"head.weight": 1, "head.bias": 1, "backbone2.weight": 0.1, "backbone2.bias": 0.1}
    for layer, scale in {
        "stem": 0.125,
        "blocks.0.0": 0.25,
        "blocks.0.1": 0.25,
        "blocks.1.0": 0.5,
        "blocks.1.1": 0.5,
    }.items():
        expected |= {f"backbone.{layer}.weight": 0.1 * scale, f"backbone.{layer}.bias": 0.1 * scale}
    expected |= {"backbone.norm.weight": 0.1, "backbone.norm.bias": 0.1, "backbone.blocks.1.0.bias": 0.1 * 0.5 * 3.0}
    assert found == pytest.approx(expected)
    assert sorted(model.backbone.asked) == sorted(name for name, _ in model.backbone.named_parameters())


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf")])
def test_a_scale_that_is_no_factor_is_refused(scale):
    model = nn.Module()
    model.backbone = nn.Linear(1, 1)
    model.backbone.lr_scale = lambda name: scale
    with pytest.raises(ValueError, match=r"lr_scale of backbone gives .* for 'weight'"):
        parameter_groups(config(), model)


def test_groups_are_as_few_as_there_are_hyper_parameters():
    assert len(parameter_groups(config(), Model())) == len(set(EXPECTED.values()))


@pytest.mark.parametrize("name", ["ADAMW", "SGD"])
def test_update_equals_one_group_for_each_parameter(name):
    """The fused update over few groups against torch's plain one, a parameter at a time."""
    torch.manual_seed(0)
    cfg = config("SOLVER.OPTIMIZER", name)
    ours, plain = Model(), Model()
    plain.load_state_dict(ours.state_dict())
    groups = [
        {"params": [dict(plain.named_parameters())[key]], "lr": 0.001 * (0.1 if slow else 1.0), "weight_decay": decay}
        for key, (slow, decay) in EXPECTED.items()
    ]
    options = {"foreach": False, "fused": False}
    slow_optimizer = (
        torch.optim.AdamW(groups, **options)
        if name == "ADAMW"
        else torch.optim.SGD(groups, momentum=0.9, nesterov=cfg.SOLVER.NESTEROV, **options)
    )
    optimizer = build_optimizer(cfg, ours)
    for _ in range(3):
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            if a.requires_grad:
                a.grad = torch.randn_like(a)
                b.grad = a.grad.clone()
        optimizer.step()
        slow_optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["value", "norm"])
def test_detectron2s_clipping_of_each_parameter_works(kind):
    cfg = config(
        *("SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", "0.0", "SOLVER.WEIGHT_DECAY", "0.0"),
        *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind),
        *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5"),
    )
    model = nn.Linear(3, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(cfg, model)
    gradient = torch.tensor([[3.0, 0.1, 4.0]])
    model.weight.grad = gradient.clone()
    optimizer.step()
    clipped = gradient.clamp(-0.5, 0.5) if kind == "value" else gradient * 0.5 / gradient.norm()
    torch.testing.assert_close((before - model.weight) / 0.001, clipped, rtol=1e-3, atol=1e-3)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER is 'LAMB'; choose one of ADAMW, ADAM, SGD"):
        build_optimizer(config("SOLVER.OPTIMIZER", "LAMB"), Model())
    options = ("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full")
    with pytest.raises(ValueError, match=r"CLIP_TYPE is 'full'; choose one of full_model, norm, value"):
        build_optimizer(config(*options), Model())


@settings(deadline=None, max_examples=60)
@given(
    max_iter=st.integers(1, 400_000),
    share=st.floats(0, 1),
    power=st.floats(0.5, 2),
    warmup_iters=st.integers(0, 2000),
    warmup_factor=st.floats(0.001, 1),
    method=st.sampled_from(["linear", "constant"]),
    ending=st.sampled_from([0.0, 0.05]),
)
def test_poly_factor_is_the_formula(max_iter, share, power, warmup_iters, warmup_factor, method, ending):
    i = int(share * max_iter)
    decay = math.pow(1.0 - i / max_iter, power)
    if i >= warmup_iters:
        expected = ending if decay < ending else decay
    else:
        done = i / warmup_iters if method == "linear" else 0.0
        expected = decay * (warmup_factor * (1 - done) + done)
    factor = WarmupPoly(max_iter, power, ending, warmup_iters, warmup_factor, method)
    assert factor(i / max_iter) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_poly_factor_ends_at_the_constant():
    factor = WarmupPoly(100, power=1.0, constant_ending=0.25, warmup_iters=10, warmup_factor=0.0)
    assert [factor(i / 100) for i in (0, 5, 10, 74, 76, 100)] == pytest.approx([0.0, 0.475, 0.9, 0.26, 0.25, 0.25])


def test_every_iteration_of_a_poly_schedule():
    cfg = config(
        *("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.MAX_ITER", "25"),
        *("SOLVER.WARMUP_ITERS", "5", "SOLVER.WARMUP_FACTOR", "0.1"),
    )
    model = Model()
    optimizer = build_optimizer(cfg, model)
    bases = [group["lr"] for group in optimizer.param_groups]
    scheduler = build_lr_scheduler(cfg, optimizer)
    for i in range(26):
        factor = (1 - i / 25) ** 0.9 * (1.0 if i >= 5 else 0.1 + 0.9 * i / 5)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([base * factor for base in bases])
        optimizer.step()
        scheduler.step()


def test_detectron2s_schedules_work():
    cfg = config("SOLVER.MAX_ITER", "10", "SOLVER.STEPS", "(4, 8)", "SOLVER.WARMUP_ITERS", "0")
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 4 + [1e-5] * 2)


def test_kmax_schedule_is_the_published_one():
    """Factors of COCO's 150,000 iterations."""
    published = json.loads((Path(__file__).parents[1] / "spec/published_kmax.json").read_text())["schedule_factor_coco"]
    factor = WarmupThenPoly(150_000, power=0.9, warmup_iters=5000, warmup_factor=0.001)
    found = {iteration: factor(int(iteration) / 150_000) for iteration in published}
    assert found == pytest.approx(published, rel=1e-4, abs=5e-7)
    opts = ["SOLVER.LR_SCHEDULER_NAME", "TF2WarmupPolyLR", "SOLVER.MAX_ITER", 10, "SOLVER.WARMUP_ITERS", 5]
    cfg = load_config(None, [*opts, "SOLVER.WARMUP_FACTOR", 0.0])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    build_lr_scheduler(cfg, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0


def test_unknown_warmup_is_refused():
    with pytest.raises(ValueError, match="WARMUP_METHOD is 'burnin'"):
        WarmupPoly(10, warmup_method="burnin")
