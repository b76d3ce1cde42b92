"""Steps without a finite loss: left out up to a number in a row, then the end, with the last good state on the disk."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import resuming

from mask2former.engine.last_good import save_last_good
from mask2former.engine.precision import AmpSettings
from mask2former.engine.statistics import RunningStatistics
from mask2former.engine.train_step import DivergedError, TrainStep


class Normalised(nn.Module):
    """Its running statistics change in the forward pass, good or bad."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.BatchNorm1d(1))

    def forward(self, batch):
        out = self.layers(torch.stack([item["x"] for item in batch]))
        return {"loss_ce": out.square().mean(), "loss_mask": (out - 1).abs().mean()}


def item(number, bad):
    x = torch.full((3,), float("nan")) if bad else torch.tensor([1.0, -number, 0.5])
    return {"x": x, "file_name": f"{number}.jpg"}


def make(bad, most=3, dtype=torch.float32):
    """``bad``: for each step, whether an image of its batch gives NaN."""
    batches = [[item(2 * n, one), item(2 * n + 1, False)] for n, one in enumerate(bad)]
    model = Normalised()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return TrainStep(model, batches, optimizer, precision=AmpSettings("cpu", dtype), max_bad_steps=most)


def run(step, steps):
    with EventStorage() as storage:
        for step.iter in range(steps):
            step.run_step()
    return storage


def snapshot(step):
    return {name: value.clone() for name, value in step.model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bad_steps_leave_no_trace(dtype, caplog):
    """The run without the bad batches gives the same weights and statistics."""
    bad = [False, True, True, False, True, False]
    step, clean = make(bad, dtype=dtype), make([False] * 6, dtype=dtype)
    clean.data_loader = [batch for batch, one in zip(step.data_loader, bad, strict=True) if not one]
    clean._data_loader_iter = iter(clean.data_loader)
    with caplog.at_level(logging.WARNING):
        storage = run(step, 6)
    run(clean, 3)
    assert all(torch.equal(value, snapshot(clean)[name]) for name, value in snapshot(step).items())
    assert "loss not finite at iteration 1: loss_ce, loss_mask" in caplog.text and "2 of 3 in a row" in caplog.text
    assert storage.latest()["bad_steps"][0] == 1
    assert np.isfinite([value for value, _ in storage.history("total_loss").values()]).all()


def test_with_loss_scaling_a_bad_step_halves_the_scale_and_nothing_else():
    step = make([True, False], dtype=torch.float16)
    before, scale = snapshot(step), step.grad_scaler.get_scale()
    run(step, 1)
    assert all(torch.equal(value, before[name]) for name, value in snapshot(step).items())
    assert step.grad_scaler.get_scale() == scale / 2
    run(step, 1)
    assert not torch.equal(snapshot(step)["layers.0.weight"], before["layers.0.weight"])


def test_too_many_in_a_row_end_it_with_parts_and_images():
    step = make([False, True, True])
    step.max_bad_steps = 2
    run(step, 1)
    before = snapshot(step)
    with pytest.raises(DivergedError, match=r"iteration 1: \{'loss_ce': nan.*last of 2 in a row.*0: 4\.jpg, 5\.jpg"):
        run(step, 2)
    assert all(torch.equal(value, before[name]) for name, value in snapshot(step).items())


def test_frozen_statistics_are_not_copied():
    model = Normalised()
    model.layers[1].eval()
    kept = RunningStatistics(model)
    kept.keep()
    model.layers[1].running_mean += 5
    model.layers[3].running_mean += 5
    kept.restore()
    assert model.layers[1].running_mean.min() == 5 and model.layers[3].running_mean.max() == 0


def test_the_trainer_saves_the_last_good_state(datasets, tmp_path):
    resuming.register(datasets)
    trainer = resuming.NotingTrainer(resuming.configuration(tmp_path, "SOLVER.MAX_BAD_STEPS", "2"))
    states = []
    step = trainer.run_step

    def run_step():
        if trainer.iter in (3, 7, 8):  # one alone is left out
            trainer.model.backbone[3].register_forward_hook(spoil)
        else:
            trainer.model.backbone[3]._forward_hooks.clear()
        step()
        states.append({name: value.clone() for name, value in trainer.model.state_dict().items()})

    def spoil(module, inputs, output):
        return output * float("nan")

    trainer.run_step = run_step
    with pytest.raises(DivergedError, match=r"iteration 8.*\.png.*saved as model_last_good\.pth.*from model_0000005"):
        trainer.train()
    saved = torch.load(tmp_path / "model_last_good.pth", weights_only=True)
    assert all(torch.equal(saved["model"][name], value) for name, value in states[6].items())
    again = resuming.train(tmp_path, resume=True)
    assert again.start_iter == 6 and all(bool(p.isfinite().all()) for p in again.model.parameters())


def test_a_gradient_that_is_not_finite_counts_without_clipping():
    """A finite loss whose gradient is not would spoil the weights without a word."""
    step = make([False, False, False], most=1)
    run(step, 1)
    before = snapshot(step)
    step.model.layers[0].weight.register_hook(lambda grad: grad * float("nan"))
    step.iter = 1
    with EventStorage(), pytest.raises(DivergedError, match="The gradient is not finite at iteration 1"):
        step.run_step()
    assert all(torch.equal(value, before[name]) for name, value in snapshot(step).items())


def test_the_last_good_state_does_not_take_the_place_of_checkpoints(datasets, tmp_path):
    """The last step before may be what diverges; weights that are not finite are not saved at all."""
    resuming.register(datasets)
    trainer = resuming.NotingTrainer(resuming.configuration(tmp_path))
    trainer.iter = 3
    trainer.checkpointer.save("model_0000001")
    assert "model_last_good.pth" in save_last_good(trainer)
    assert (tmp_path / "model_last_good.pth").exists() and trainer.iter == 3
    assert trainer.checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000001.pth")
    (tmp_path / "model_last_good.pth").unlink()
    with torch.no_grad():
        trainer.model.head.bias[0] = float("nan")
    assert "not finite either" in save_last_good(trainer)
    assert not (tmp_path / "model_last_good.pth").exists()
