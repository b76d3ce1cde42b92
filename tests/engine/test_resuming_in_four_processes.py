"""A training of four processes on a CPU (gloo) that is resumed ends as the uninterrupted one, bit by bit.

A sum of two numbers has one order; of four it has several, and gloo's depends on where a gradient lies in its bucket.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from forked import run_forked
from torch import nn

from mask2former.config import load_config
from mask2former.engine.trainer import Trainer

PROCESSES = 4
ORDER = (3, 1, 0, 7, 6, 2, 5, 4)  # of the layers; that of their registration is how gradients lie at first


@META_ARCH_REGISTRY.register()
class OrderedTestModel(nn.Module):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.backbone = nn.ModuleList(nn.Linear(64, 64) for _ in ORDER)
        self.head = nn.Linear(64, 1)

    def forward(self, batch: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        values = torch.stack([item["image"] for item in batch])
        for number in ORDER:
            values = self.backbone[number](values).tanh()
        return {"loss_ce": self.head(values).square().mean()}


class FixedTrainer(Trainer):
    rank = 0

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        generator = torch.Generator().manual_seed(cls.rank)
        return itertools.repeat([{"image": torch.randn(64, generator=generator)} for _ in range(3)])


def train(folder: Path, resume: bool) -> dict[str, torch.Tensor]:
    """Train six steps with a checkpoint after three; return the weights and the first step."""
    options = {
        **{"MODEL.META_ARCHITECTURE": "OrderedTestModel", "MODEL.DEVICE": "cpu", "OUTPUT_DIR": folder, "SEED": 1},
        **{"SOLVER.MAX_ITER": 6, "SOLVER.CHECKPOINT_PERIOD": 3, "SOLVER.BASE_LR": 0.05, "DATASETS.TEST": ()},
        **{"SOLVER.IMS_PER_BATCH": 3 * PROCESSES, "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR"},
    }
    trainer = FixedTrainer(load_config(None, [*map(str, itertools.chain(*options.items()))]))
    trainer.resume_or_load(resume=resume)
    start = trainer.start_iter
    trainer.train()
    return {**trainer.model.module.state_dict(), "start": torch.tensor(start)}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    FixedTrainer.rank = rank
    whole, parts = Path(folder, "whole"), Path(folder, "parts")
    torch.save(train(whole, False), f"{folder}/whole{rank}.pth")
    torch.distributed.barrier()
    if rank == 0:
        parts.mkdir()
        shutil.copy(whole / "model_0000002.pth", parts)
        (parts / "last_checkpoint").write_text("model_0000002.pth")
    torch.distributed.barrier()
    torch.save(train(parts, True), f"{folder}/parts{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_resumed_equals_uninterrupted_in_four_processes(tmp_path: Path) -> None:
    run_forked(worker, (str(tmp_path),), count=PROCESSES)
    for rank in range(PROCESSES):
        one, other = (torch.load(tmp_path / f"{name}{rank}.pth") for name in ("whole", "parts"))
        assert (int(one.pop("start")), int(other.pop("start"))) == (0, 3)
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(("device", "processes", "fixed"), [("cpu", 2, False), ("cpu", 3, True), ("cuda", 4, False)])
def test_the_layout_of_gradients_is_kept_where_it_matters(
    monkeypatch: pytest.MonkeyPatch, device: str, processes: int, fixed: bool
) -> None:
    """Expect no walk over the graph of two processes, whose sums have one order; and none on GPUs."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("mask2former.engine.trainer.create_ddp_model", lambda model, **words: given.update(words))
    monkeypatch.setattr(comm, "get_world_size", lambda: processes)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    cfg = load_config(None, [])
    cfg.MODEL.DEVICE = device
    Trainer._distribute(cfg, nn.Linear(1, 1))
    assert given["find_unused_parameters"] is fixed
