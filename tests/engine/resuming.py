"""A training of the real mapper and network on a few drawn images, for tests of interruptions in several processes."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

import mask2former  # noqa: F401  (spawned processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from mask2former.config import load_config
from mask2former.data.loader import build_train_loader
from mask2former.data.mapper import Mapper
from mask2former.engine.trainer import Trainer

DATASET = "resuming_train"
QUICKSTART = Path(__file__).parents[2] / "configs/quickstart/panoptic.yaml"


@META_ARCH_REGISTRY.register()
class ChanceModel(nn.Module):
    """A few parameters, and every source of chance and of state that a training has."""

    def __init__(self, cfg):
        super().__init__()
        torch.manual_seed(7)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, batch):
        images = torch.stack([item["image"].float()[:, :32, :32] for item in batch]) / 255
        noise = np.random.rand() + random.random()
        targets = torch.tensor([float(item["instances"].gt_masks.tensor.float().mean()) for item in batch])
        out = self.head(self.backbone(images + noise * torch.rand_like(images)))
        return {"loss_ce": (out.mean((1, 2, 3)) - targets).square().mean(), "loss_mask": out.square().mean()}


class NotingTrainer(Trainer):
    """Notes the images and how they were augmented."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.seen = []
        bare = self.model.module if hasattr(self.model, "module") else self.model
        bare.register_forward_pre_hook(lambda module, inputs: self.seen.append(facts(inputs[0])))

    @classmethod
    def build_train_loader(cls, cfg):
        return build_train_loader(cfg, Mapper(cfg, True))


def facts(batch):
    return [(Path(item["file_name"]).name, int(item["image"].long().sum())) for item in batch]


def register(root):
    """Register the training images of conftest's data set, with the classes of their pixels."""
    root = root / "quickstart"
    content = json.loads((root / "annotations" / "panoptic_train.json").read_text())
    records = [
        {
            **{"file_name": str(root / "images" / "train" / image["file_name"]), "image_id": image["id"]},
            **{"sem_seg_file_name": str(root / "semantic" / "train" / image["file_name"])},
            **{"height": image["height"], "width": image["width"]},
        }
        for image in content["images"]
    ]
    if DATASET not in DatasetCatalog:
        DatasetCatalog.register(DATASET, lambda: records)
        MetadataCatalog.get(DATASET).set(stuff_classes=[str(number) for number in range(12)])


def configuration(folder, *options):
    given = {
        **{"MODEL.META_ARCHITECTURE": "ChanceModel", "MODEL.DEVICE": "cpu", "OUTPUT_DIR": str(folder), "SEED": 11},
        **{"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 12, "DATASETS.TRAIN": (DATASET,), "DATASETS.TEST": ()},
        **{"INPUT.DATASET_MAPPER_NAME": "mask_former_semantic", "INPUT.MIN_SIZE_TRAIN": (48, 64, 80)},
        **{"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": (40, 40)},
        **{"INPUT.SIZE_DIVISIBILITY": 48, "INPUT.COLOR_AUG_SSD": True, "SOLVER.MAX_ITER": 12},
        **{"SOLVER.IMS_PER_BATCH": 4, "SOLVER.ACCUMULATE_STEPS": 2, "SOLVER.BASE_LR": 0.02},
        **{"SOLVER.CHECKPOINT_PERIOD": 6, "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR", "SOLVER.WARMUP_ITERS": 3},
        **{"SOLVER.CLIP_GRADIENTS.ENABLED": True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model"},
        **{"SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5, "DATALOADER.NUM_WORKERS": 0},
    }
    return load_config(None, [*map(str, itertools.chain(*given.items())), *map(str, options)])


def train(folder, *options, resume=False, stop_after=None):
    """Train; return the trainer. ``stop_after`` ends it without a word after so many iterations, as a kill does."""
    return run(NotingTrainer(configuration(folder, *options)), resume, stop_after)


def run(trainer, resume=False, stop_after=None):
    """Train with a trainer, as :func:`train` does."""
    trainer.resume_or_load(resume=resume)
    step = trainer.run_step

    def run_step():
        if trainer.iter == stop_after:
            raise KeyboardInterrupt
        step()

    trainer.run_step = run_step
    try:
        trainer.train()
    except KeyboardInterrupt:
        assert stop_after is not None
    return trainer


def state(trainer):
    """Everything that the next step depends on."""
    model = trainer.model.module if hasattr(trainer.model, "module") else trainer.model
    optimizer = trainer.optimizer.state_dict()["state"]
    moments = {f"{n}.{key}": value for n, values in optimizer.items() for key, value in values.items()}
    scale = {"scale": torch.tensor(trainer._trainer.grad_scaler.state_dict().get("scale", 0.0))}
    return {**model.state_dict(), **moments, **scale, "lr": torch.tensor(trainer.optimizer.param_groups[0]["lr"])}
