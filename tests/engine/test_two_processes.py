"""Two processes on a CPU (gloo) train as one process with the pictures of both does."""

import itertools
import json

import torch
import torch.distributed
import torch.multiprocessing

import mask2former  # noqa: F401  (the processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mask2former.engine import load_config
from mask2former.engine.trainer import Trainer

PICTURES = [{"image": torch.tensor([1.0, -1.0, 0.5]) * i} for i in range(1, 5)]


@META_ARCH_REGISTRY.register()
class TwoProcessesTestModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        torch.manual_seed(5)
        self.backbone = nn.Linear(3, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, batch):
        out = self.head(self.backbone(torch.stack([item["image"] for item in batch])).relu())
        return {"loss_ce": out.square().mean(), "loss_mask": (out - 2).abs().mean()}


class FixedTrainer(Trainer):
    pictures = PICTURES

    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat(cls.pictures)


def train(folder):
    options = {
        **{"MODEL.META_ARCHITECTURE": "TwoProcessesTestModel", "MODEL.DEVICE": "cpu", "OUTPUT_DIR": str(folder)},
        **{"SOLVER.MAX_ITER": 3, "SOLVER.IMS_PER_BATCH": 4, "SOLVER.BASE_LR": 0.05, "DATASETS.TEST": ()},
        **{"SOLVER.CLIP_GRADIENTS.ENABLED": True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model"},
        **{"SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5, "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR"},
    }
    trainer = FixedTrainer(load_config(None, list(itertools.chain(*options.items()))))
    trainer.train()
    model = trainer.model.module if hasattr(trainer.model, "module") else trainer.model
    return model.state_dict()


def worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    FixedTrainer.pictures = PICTURES[2 * rank : 2 * rank + 2]
    torch.save(train(f"{folder}/both"), f"{folder}/rank{rank}.pth")
    torch.distributed.destroy_process_group()


def last_scalars(folder):
    return json.loads((folder / "metrics.json").read_text().splitlines()[-1])


def test_two_processes_train_as_one(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    alone = train(tmp_path / "one")
    for rank in range(2):
        weights = torch.load(tmp_path / f"rank{rank}.pth", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6)
    one, both = last_scalars(tmp_path / "one"), last_scalars(tmp_path / "both")
    for name in ("loss_ce", "loss_mask", "total_loss", "grad_norm"):
        torch.testing.assert_close(both[name], one[name], rtol=1e-4, atol=1e-6)
