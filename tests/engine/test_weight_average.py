"""Averaged weights beside a plain loop over the weights of every step; resumed, evaluated, saved, in two processes."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
from detectron2.engine import DefaultTrainer, SimpleTrainer
from detectron2.engine.hooks import EvalHook
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import resuming
from forked import run_forked

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.engine.hooks.weight_average import WeightAverageHook
from mask2former.engine.precision import AmpSettings
from mask2former.engine.train_step import TrainStep

EMA = ("SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.4")


@pytest.fixture(autouse=True)
def _registered(datasets):
    resuming.register(datasets)


class Normalised(nn.Module):
    """Has parameters, averages and counts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def forward(self, batch):
        return {"loss": self.layers(batch).square().mean()}


def batches(bad=()):
    generator = torch.Generator().manual_seed(1)
    for number in itertools.count():
        batch = torch.randn(6, 3, generator=generator)
        yield batch * float("nan") if number in bad else batch


def noting(hook_or_trainer, model, history):
    """Note the weights after each step."""
    step = hook_or_trainer.run_step

    def run_step():
        step()
        history.append({name: value.clone() for name, value in model.state_dict().items()})

    hook_or_trainer.run_step = run_step


def average_of(history, decay):
    """Return the average by its definition, in double precision; the rate grows as (1 + n) / (10 + n)."""
    average = {name: value.double() for name, value in history[0].items()}
    for n, weights in enumerate(history[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * value.double() for name, value in weights.items()}
    counts = {name: value for name, value in history[-1].items() if not value.is_floating_point()}
    return average | counts


def assert_close(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_that_of_its_definition(decay):
    """By Detectron2's own trainer, with running statistics and counts."""
    model = Normalised()
    trainer = SimpleTrainer(model, batches(), torch.optim.AdamW(model.parameters(), lr=0.1))
    hook = WeightAverageHook(model, decay)
    trainer.register_hooks([hook])
    history = []
    noting(trainer, model, history)
    trainer.train(0, 30)
    assert hook.updates == 30
    assert_close(hook.model.state_dict(), average_of(history, decay))
    assert hook.model.layers[1].num_batches_tracked == 30
    assert not any(parameter.requires_grad for parameter in hook.model.parameters())
    after = {name: value.clone() for name, value in hook.model.state_dict().items()}
    trainer.optimizer.step()  # after the training it listens no longer
    assert all(torch.equal(value, after[name]) for name, value in hook.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_steps_without_an_update_leave_the_average(dtype):
    """The loss of steps 0, 4 and 5 is not finite."""
    model = Normalised()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = TrainStep(model, batches({0, 4, 5}), optimizer, precision=AmpSettings("cpu", dtype), max_bad_steps=5)
    hook = WeightAverageHook(model, 0.6)
    trainer.register_hooks([hook])
    history = []
    noting(trainer, model, history)
    trainer.train(0, 8)
    good = [weights for number, weights in enumerate(history) if number not in (0, 4, 5)]
    assert hook.updates == 5
    assert_close(hook.model.state_dict(), average_of(good, 0.6))


@pytest.mark.parametrize("options", [(), ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm")], ids=["whole", "each"])
def test_resumed_equals_uninterrupted(tmp_path, options):
    """Bit by bit, the average too; and averaging changes nothing in the training itself."""
    plain = resuming.train(tmp_path / "plain", *options)
    whole = resuming.train(tmp_path / "whole", *EMA, *options)
    resuming.train(tmp_path / "parts", *EMA, *options, stop_after=8)
    parts = resuming.train(tmp_path / "parts", *EMA, *options, resume=True)
    assert parts.start_iter == 6
    expected = resuming.state(whole)
    for other in (parts, plain):
        assert all(torch.equal(value, expected[name]) for name, value in resuming.state(other).items())
    final = [torch.load(tmp_path / run / "model_final.pth", weights_only=True) for run in ("whole", "parts", "plain")]
    assert [set(content) for content in final] == [{"model"}] * 3  # weights alone
    whole_file, parts_file, plain_file = (content["model"] for content in final)
    assert all(torch.equal(value, parts_file[name]) for name, value in whole_file.items())
    assert all(torch.equal(value, expected[name]) for name, value in plain_file.items())
    assert not torch.equal(whole_file["head.weight"], plain_file["head.weight"])


def test_the_final_file_and_the_evaluations_have_the_average(tmp_path, monkeypatch):
    history, evaluated = [], []
    monkeypatch.setattr(
        resuming.NotingTrainer,
        "test",
        classmethod(lambda cls, cfg, model: evaluated.append({k: v.clone() for k, v in model.state_dict().items()})),
    )
    trainer = resuming.NotingTrainer(resuming.configuration(tmp_path, *EMA, "TEST.EVAL_PERIOD", "4"))
    noting(trainer, trainer.model, history)
    trainer.train()
    assert len(evaluated) == 3
    for steps, weights in zip((4, 8, 12), evaluated, strict=True):
        assert_close(weights, average_of(history[:steps], 0.4))
    assert_close(torch.load(tmp_path / "model_final.pth", weights_only=True)["model"], evaluated[-1])


def test_a_checkpoint_is_used_with_its_average_and_resumed_with_its_weights(tmp_path):
    """Loading weights alone, as Predictor, --eval-only and MODEL.WEIGHTS do, takes the average."""
    resuming.train(tmp_path, *EMA, stop_after=8)
    checkpoint = tmp_path / "model_0000005.pth"
    saved = torch.load(checkpoint, weights_only=True)
    average = saved["trainer"]["hooks"]["WeightAverageHook"]["averaged_model"]
    assert not torch.equal(average["head.weight"], saved["model"]["head.weight"])
    trainer = resuming.NotingTrainer(resuming.configuration(tmp_path, *EMA))
    for resume, expected in ((True, saved["model"]), (False, average)):
        model = trainer.model
        MaskFormerCheckpointer(model).load(str(checkpoint))
        assert torch.equal(model.head.weight, average["head.weight"])
        other = resuming.NotingTrainer(resuming.configuration(tmp_path, *EMA, "MODEL.WEIGHTS", checkpoint))
        other.resume_or_load(resume=resume)
        assert torch.equal(other.model.head.weight, expected["head.weight"])


def test_a_training_that_begins_to_average_and_one_that_ends_it(tmp_path):
    """A checkpoint may lack the average, and a run may have no use for it."""
    first = resuming.train(tmp_path, stop_after=8)
    history = []
    trainer = resuming.NotingTrainer(resuming.configuration(tmp_path, *EMA))
    trainer.resume_or_load(resume=True)
    noting(trainer, trainer.model, history)
    trainer.train()
    found = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert len(history) == 6 and first.start_iter == 0
    assert_close(found, average_of(history, 0.4))
    longer = resuming.train(tmp_path, "SOLVER.MAX_ITER", "14", resume=True)
    assert longer.start_iter == 12
    assert_close(torch.load(tmp_path / "model_final.pth", weights_only=True)["model"], longer.model.state_dict())


def test_the_average_of_another_network_is_left_out(caplog):
    hook, other = WeightAverageHook(nn.Linear(2, 3), 0.9), WeightAverageHook(nn.Linear(2, 4), 0.9)
    with caplog.at_level(logging.WARNING):
        hook.load_state_dict(other.state_dict())
    assert "of another network" in caplog.text and hook.updates == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 5.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"SOLVER\.EMA\.DECAY is .* at least 0 and below 1"):
        WeightAverageHook(nn.Linear(1, 1), decay)


def test_detectron2s_trainer_resumes_with_the_hook(tmp_path):
    """In a script of its own, with its checkpointer, which writes what its release writes."""

    class Script(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return resuming.build_train_loader(cfg, resuming.Mapper(cfg, True))

        def build_hooks(self):
            self.average = WeightAverageHook(self.model, 0.5)
            self.evaluated = []
            note = EvalHook(0, lambda: self.evaluated.append(self.average.model.head.weight.clone()))
            return [self.average, *super().build_hooks()[:-2], note]

    cfg = resuming.configuration(tmp_path)
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, cfg.SOLVER.LR_SCHEDULER_NAME = "norm", "WarmupCosineLR"
    script = Script(cfg)
    script.resume_or_load(resume=False)
    script.train()
    assert script.average.updates == 12
    assert torch.equal(script.evaluated[0], script.average.model.head.weight)
    again = Script(cfg)
    again.resume_or_load(resume=True)
    assert again.average.updates == 12
    assert torch.equal(again.average.model.head.weight, script.average.model.head.weight)


def worker(rank, root, folder):
    torch.set_num_threads(1)
    resuming.register(Path(root))
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    history = []
    trainer = resuming.NotingTrainer(resuming.configuration(f"{folder}/run", *EMA))
    noting(trainer, trainer.model.module, history)
    trainer.train()
    average = next(hook for hook in trainer._hooks if isinstance(hook, WeightAverageHook)).model.state_dict()
    torch.save((average, average_of(history, 0.4)), f"{folder}/rank{rank}.pth")
    torch.distributed.destroy_process_group()


def test_two_processes_have_one_average(datasets, tmp_path):
    run_forked(worker, (str(datasets), str(tmp_path)))
    (first, expected), (second, others) = (torch.load(tmp_path / f"rank{rank}.pth") for rank in "01")
    assert_close(first, expected)
    assert_close(second, others)  # their running statistics are their own
    assert all(torch.equal(second[name], value) for name, value in first.items() if "running" not in name)
    final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert set(final) == set(first)
    assert all(torch.equal(final[name], value) for name, value in first.items())
