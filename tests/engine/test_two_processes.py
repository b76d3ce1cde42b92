"""Two processes on a CPU (gloo) train as one process with the images of both does."""

import itertools
import json
from pathlib import Path

import torch
import torch.distributed
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Instances
from forked import run_forked
from torch import nn

from mask2former.config import load_config
from mask2former.engine.trainer import Trainer

QUICKSTART = Path(__file__).parents[2] / "configs/quickstart/panoptic.yaml"
IMAGES = [{"image": torch.tensor([1.0, -1.0, 0.5]) * i} for i in range(1, 5)]


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
    images = IMAGES

    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat(cls.images)


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
    FixedTrainer.images = IMAGES[2 * rank : 2 * rank + 2]
    torch.save(train(f"{folder}/both"), f"{folder}/rank{rank}.pth")
    torch.distributed.destroy_process_group()


def last_scalars(folder):
    return json.loads((folder / "metrics.json").read_text().splitlines()[-1])


def test_two_processes_train_as_one(tmp_path):
    run_forked(worker, (str(tmp_path),))
    alone = train(tmp_path / "one")
    for rank in range(2):
        weights = torch.load(tmp_path / f"rank{rank}.pth", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6)
    one, both = last_scalars(tmp_path / "one"), last_scalars(tmp_path / "both")
    for name in ("loss_ce", "loss_mask", "total_loss", "grad_norm"):
        torch.testing.assert_close(both[name], one[name], rtol=1e-4, atol=1e-6)


SMALL = {
    **{"MODEL.DEVICE": "cpu", "MODEL.WEIGHTS": "", "DATASETS.TRAIN": (), "DATASETS.TEST": ()},
    **{"MODEL.SEM_SEG_HEAD.CONVS_DIM": 32, "MODEL.SEM_SEG_HEAD.MASK_DIM": 32, "MODEL.MASK_FORMER.HIDDEN_DIM": 32},
    **{"MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1, "MODEL.MASK_FORMER.DEC_LAYERS": 3},
    **{"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 6, "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": False},
    # No chance in them: batch statistics and points would be those of each process.
    **{"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.MASK_FORMER.MASK_LOSS": "focal"},
}
OBJECTS = {"uneven": [[3, 1], [1, 0]], "one process has none": [[2, 3], [0, 0]], "none": [[0, 0], [0, 0]]}


def network():
    torch.manual_seed(3)
    return Trainer.build_model(load_config(str(QUICKSTART), list(itertools.chain(*SMALL.items())))).train()


def images(counts):
    """Each image and its objects depend on its number of objects and place alone."""
    batch = []
    for index, count in enumerate(counts):
        image = (torch.arange(3 * 64 * 64).remainder(197 + index).view(3, 64, 64)).to(torch.uint8)
        masks = torch.zeros(count, 64, 64, dtype=torch.bool)
        for n in range(count):
            masks[n, 16 * n : 16 * n + 20, 8 * index :] = True
        instances = Instances((64, 64), gt_masks=BitMasks(masks), gt_classes=torch.arange(count))
        batch.append({"image": image, "instances": instances})
    return batch


def losses_and_gradients(model, batch):
    """Of the masks alone: the classification is normalised within each process, as published."""
    losses = model(batch)
    assert all(loss.isfinite() for loss in losses.values())
    # All losses take part, or DistributedDataParallel would wait for the classifier's gradients for ever.
    sum(loss * (0 if "ce" in name else 1) for name, loss in losses.items()).backward()
    masks = {name: loss.detach() for name, loss in losses.items() if "ce" not in name}
    return masks, {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters()}


def network_worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting2", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(network())
    results = {}
    for name, counts in OBJECTS.items():
        model.zero_grad()
        results[name] = losses_and_gradients(model, images(counts[0] + counts[1])[2 * rank : 2 * rank + 2])
    torch.save(results, f"{folder}/network{rank}.pth")
    torch.distributed.destroy_process_group()


def test_losses_of_uneven_and_empty_batches_are_those_of_one_process(tmp_path):
    """Mask losses are divided by the mean number of masks of a process, so that their mean is that of the whole."""
    run_forked(network_worker, (str(tmp_path),))
    ranks = [torch.load(tmp_path / f"network{rank}.pth", weights_only=True) for rank in range(2)]
    model = network()
    for name, counts in OBJECTS.items():
        model.zero_grad()
        losses, gradients = losses_and_gradients(model, images(counts[0] + counts[1]))
        # Where the whole has masks: sum over all / all masks = mean over processes of (own sum / mean masks).
        for key, loss in losses.items():
            torch.testing.assert_close((ranks[0][name][0][key] + ranks[1][name][0][key]) / 2, loss, msg=key)
        assert any(loss > 0 for loss in losses.values()) == (name != "none")
        for rank in ranks:
            for key, gradient in rank[name][1].items():
                torch.testing.assert_close(gradient, gradients[key], rtol=1e-3, atol=1e-5, msg=f"{name}: {key}")
