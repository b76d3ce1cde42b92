"""Whatever the family: a training resumes, is scored, goes in bfloat16 and by recomputation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_families import FAMILIES, Family, batch, network
from torch import Tensor, nn

from mask2former.data import register_all
from mask2former.engine.trainer import Trainer

ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def train(folder: Path, family: Family, *options: object, resume: bool = False, stop_after: int | None = None) -> Any:
    """Train; return the trainer and the scores. ``stop_after`` ends it after so many iterations, as a kill does."""
    given = ["OUTPUT_DIR", folder, "SEED", 5, "SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 2]
    torch.manual_seed(5)
    trainer = Trainer(family.configuration(*given, "SOLVER.WARMUP_ITERS", 1, *options))
    trainer.resume_or_load(resume=resume)
    scores = None
    step = trainer.run_step

    def run_step() -> None:
        if trainer.iter == stop_after:
            raise KeyboardInterrupt
        step()

    trainer.run_step = run_step
    try:
        scores = trainer.train()
    except KeyboardInterrupt:
        assert stop_after is not None
    return trainer, scores


def state(trainer: Trainer) -> dict[str, Tensor]:
    moments = {
        f"{number}.{key}": torch.as_tensor(value)
        for number, values in trainer.optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    return {**trainer.model.state_dict(), **moments}


@ALL
def test_a_training_resumes_and_is_scored(family: Family, datasets: Path, tmp_path: Path) -> None:
    """Killed after iteration 2 and resumed from its checkpoint, it equals the uninterrupted one."""
    register_all(str(datasets))
    whole, scores = train(tmp_path / "whole", family)
    of_results = {"sem_seg": {"sem_seg"}, "panoptic_seg": {"panoptic_seg"}, "instances": {"bbox", "segm"}}
    assert set(scores) == set().union(*(of_results[kind] for kind in family.results))
    assert not [name for name, p in whole.model.named_parameters() if p.requires_grad and p.grad is None]
    unscored = ("DATASETS.TEST", "()")
    train(tmp_path / "killed", family, *unscored, stop_after=2)
    resumed, _ = train(tmp_path / "killed", family, *unscored, resume=True)
    assert resumed.start_iter == 2
    expected, found = state(whole), state(resumed)
    assert set(expected) == set(found)
    assert not [name for name in expected if not torch.equal(expected[name], found[name])]


def step(model: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], int]:
    """Make a training step; return the losses and how many numbers were kept for the backward pass."""
    kept = 0

    def count(x: Tensor) -> Tensor:
        nonlocal kept
        kept += x.numel()
        return x

    torch.manual_seed(1)
    precision = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    with precision, torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        losses = model(batch())
    sum(losses.values()).backward()
    return losses, kept


@ALL
def test_a_step_in_bfloat16_is_near(family: Family, tmp_path: Path) -> None:
    register_all(str(tmp_path))
    exact, rounded = (network(family).train() for _ in range(2))
    expected, found = step(exact)[0], step(rounded, torch.bfloat16)[0]
    assert expected.keys() == found.keys()
    for name, loss in found.items():
        assert loss.dtype == torch.float32, name
    exact_sum, rounded_sum = (float(sum(loss.detach() for loss in losses.values())) for losses in (expected, found))
    assert rounded_sum == pytest.approx(exact_sum, rel=0.1)
    gradients = [p.grad for p in rounded.parameters() if p.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


@ALL
def test_recomputation_changes_memory_alone(family: Family, tmp_path: Path) -> None:
    register_all(str(tmp_path))
    plain = network(family).train()
    saving = network(family, "MODEL.CHECKPOINT", list(family.recomputed)).train()
    (expected, kept_plain), (losses, kept) = step(plain), step(saving)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)
    assert kept < 0.8 * kept_plain
