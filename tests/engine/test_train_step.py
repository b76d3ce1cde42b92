"""The training step: number formats, clipping over the whole model, losses that are not finite."""

import itertools
import logging

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mask2former.config import load_config
from mask2former.engine.precision import AmpSettings, build_amp_settings
from mask2former.engine.train_step import TrainStep
from mask2former.processor import computes_bfloat16


class Model(nn.Module):
    """Two losses over two layers; notes the number format its layer computed in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 1)
        self.computed_in = None

    def forward(self, batch):
        hidden = self.first(torch.stack(batch))
        self.computed_in = hidden.dtype
        out = self.second(hidden.relu()).float()
        return {"loss_ce": out.square().mean(), "loss_mask": 3 * (out - 1).abs().mean()}


BATCH = list(torch.linspace(-1, 1, 12).reshape(3, 4))


def make(precision=None, batch=BATCH, rate=1.0, **options):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    return TrainStep(model, itertools.repeat(batch), optimizer, precision=precision or AmpSettings("cpu"), **options)


def run(step, steps=1):
    with EventStorage() as storage:
        for step.iter in range(steps):
            step.run_step()
    return storage


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradient_of(batch):
    model = Model()
    sum(model(batch).values()).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_without_clipping_it_is_plain_gradient_descent():
    step = make(rate=0.5)
    before = flat(step.model)
    run(step)
    torch.testing.assert_close(flat(step.model), before - 0.5 * gradient_of(BATCH))


def test_the_norm_over_all_parameters_is_clipped_and_recorded():
    gradient = gradient_of(BATCH)
    assert gradient.norm() > 0.3
    step = make(max_grad_norm=0.25)
    before = flat(step.model)
    storage = run(step)
    change = before - flat(step.model)
    torch.testing.assert_close(change, gradient * 0.25 / gradient.norm(), rtol=1e-4, atol=1e-6)
    assert storage.latest()["grad_norm"][0] == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_small_gradients_are_not_clipped():
    step = make(max_grad_norm=1000.0)
    before = flat(step.model)
    run(step)
    torch.testing.assert_close(before - flat(step.model), gradient_of(BATCH))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_number_formats_run_on_a_cpu(dtype):
    step = make(AmpSettings("cpu", dtype), rate=0.01)
    storage = run(step, 20)
    assert step.model.computed_in == dtype
    assert all(parameter.dtype == torch.float32 for parameter in step.model.parameters())
    losses = [value for value, _ in storage.history("total_loss").values()]
    assert losses[-1] < losses[0]


def test_clipping_sees_gradients_without_the_loss_scale():
    """In float16 the loss is multiplied by 2**16; a norm under the limit must still count as under it."""
    limit = 1.5 * gradient_of(BATCH).norm().item()
    step = make(AmpSettings("cpu", torch.float16), max_grad_norm=limit)
    step.grad_scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    before = flat(step.model)
    storage = run(step)
    torch.testing.assert_close(before - flat(step.model), gradient_of(BATCH), rtol=0.02, atol=0.01)
    assert storage.latest()["grad_norm"][0] < limit


def test_a_loss_that_is_not_finite_is_named_and_leaves_the_weights():
    step = make(batch=[torch.full((4,), float("nan"))])
    before = flat(step.model)
    with pytest.raises(FloatingPointError, match=r"not finite at iteration 0: \{'loss_ce': nan, 'loss_mask': nan\}"):
        run(step)
    assert torch.equal(flat(step.model), before)


def test_a_gradient_that_is_not_finite_is_named_and_leaves_the_weights():
    step = make(max_grad_norm=1.0)
    before = flat(step.model)
    step.model.second.bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match="gradient is not finite at iteration 0"):
        run(step)
    assert torch.equal(flat(step.model), before)


def test_every_loss_is_recorded():
    storage = run(make())
    latest = {name: value for name, (value, _) in storage.latest().items()}
    assert latest["total_loss"] == pytest.approx(latest["loss_ce"] + latest["loss_mask"])
    assert latest["data_time"] >= 0


def test_state_goes_between_number_formats():
    half, single = make(AmpSettings("cpu", torch.float16)), make()
    half.load_state_dict(single.state_dict())
    half.grad_scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    run(half)
    other = make(AmpSettings("cpu", torch.float16))
    other.load_state_dict(half.state_dict())
    assert other.grad_scaler.state_dict() == half.grad_scaler.state_dict()
    single.load_state_dict(half.state_dict())


def choose(*options):
    return load_config(None, ["MODEL.DEVICE", "cpu", *options])


@pytest.mark.parametrize("fast", [True, False])
def test_auto_on_a_cpu_follows_the_processor(monkeypatch, caplog, fast):
    monkeypatch.setattr("mask2former.engine.precision.computes_bfloat16", lambda: fast)
    with caplog.at_level(logging.INFO, "mask2former"):
        precision = build_amp_settings(choose("SOLVER.AMP.ENABLED", "True"))
    assert precision == AmpSettings("cpu", torch.bfloat16 if fast else torch.float32)
    assert ("float32" in caplog.text) == (not fast)


def test_auto_on_a_gpu_is_float16_as_published():
    cfg = choose("SOLVER.AMP.ENABLED", "True")
    cfg.MODEL.DEVICE = "cuda:0"
    assert build_amp_settings(cfg) == AmpSettings("cuda", torch.float16)


def test_named_formats_and_none():
    assert build_amp_settings(choose("SOLVER.AMP.DTYPE", "bfloat16")).dtype == torch.float32  # not enabled
    enabled = ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE")
    assert build_amp_settings(choose(*enabled, "bfloat16")).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"SOLVER\.AMP\.DTYPE is 'fp16'; choose one of auto, float16, bfloat16"):
        build_amp_settings(choose(*enabled, "fp16"))


def test_processors_features(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False}, raising=False)
    assert not computes_bfloat16()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert computes_bfloat16()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not computes_bfloat16()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [1, 3])
def test_parts_of_a_batch_add_up_to_its_gradient(parts, dtype):
    """These losses are means over images, so their mean over equal parts is that of the whole."""
    step = make(AmpSettings("cpu", dtype), rate=0.5, accumulate_steps=parts)
    before = flat(step.model)
    storage = run(step)
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(flat(step.model), before - 0.5 * gradient_of(BATCH), **tolerance)
    whole = sum(Model()(BATCH).values()).item()
    assert storage.latest()["total_loss"][0] == pytest.approx(whole, rel=1e-5 if dtype == torch.float32 else 0.05)


def test_gradients_of_the_step_before_are_forgotten():
    step = make(rate=0.0, accumulate_steps=3)
    run(step, 2)
    gradient = torch.cat([parameter.grad.flatten() for parameter in step.model.parameters()])
    torch.testing.assert_close(gradient, gradient_of(BATCH))


@pytest.mark.parametrize("parts", [2, 6])
def test_parts_that_do_not_divide_a_batch_are_told(parts):
    with pytest.raises(ValueError, match=rf"ACCUMULATE_STEPS is {parts}, which does not divide the 3 images"):
        run(make(accumulate_steps=parts))


def test_bfloat16_needs_no_loss_scaling():
    assert not AmpSettings("cpu", torch.bfloat16).grad_scaler().is_enabled()
    assert AmpSettings("cpu", torch.float16).grad_scaler().is_enabled()
