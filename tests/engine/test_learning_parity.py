"""Training steps beside Hugging Face's Mask2Former: same weights, same batch, all pixels as points.

Both networks compute in float64, so that no pixel of an attention mask changes sides by rounding; our losses are
float32 as ever.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mask2former.checkpoint.hf import from_hf, to_hf
from mask2former.engine.optimizer import build_optimizer
from mask2former.engine.precision import AmpSettings
from mask2former.engine.train_step import TrainStep
from mask2former.modeling.losses.pixel_losses import MASK_LOSS_REGISTRY, PointCrossEntropy

pytest.importorskip("transformers")
from hf_models import CLASSES, configuration, their_model
from transformers.models.mask2former import modeling_mask2former as hf

PADDED = (96, 160)
PIXELS = (PADDED[0] // 4) * (PADDED[1] // 4)  # of the predicted masks
CLIP = 0.01  # as published; every step is clipped
UNUSED = "pixel_level_module.encoder.swin.layernorm."  # a norm that their backbone has and never calls


def pixel_centres() -> Tensor:
    """Return the centre of each pixel of the predicted masks, [P, 2] (x, y)."""
    y, x = ((torch.arange(side // 4, dtype=torch.float64) + 0.5) / (side // 4) for side in PADDED)
    return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1).flatten(0, 1)


class EveryPixel(PointCrossEntropy):
    """Compares at the centre of each pixel of the predicted masks, once."""

    def matching_samples(self, features: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        _, truth = self.gather(
            features.new_zeros(len(target), *features.shape[-2:]),
            target.masks.flatten(0, 1),
            torch.arange(len(target)),
            pixel_centres().float().expand(len(target), -1, -1),
        )
        return features.flatten(1), truth

    def choose_points(self, logits: Tensor) -> Tensor:
        return pixel_centres().float().expand(len(logits), -1, -1)


if "EveryPixel" not in MASK_LOSS_REGISTRY:
    MASK_LOSS_REGISTRY.register(EveryPixel)


def at_every_pixel(maps: Tensor, points: Tensor, **_: Any) -> Tensor:
    """Sample as their ``sample_point``, but at each pixel instead of the given points: [R, C, P]."""
    grid = (2 * pixel_centres() - 1).expand(len(maps), 1, -1, -1)
    return nn.functional.grid_sample(maps.double(), grid, align_corners=False)[:, :, 0]


@dataclass
class Pair:
    """The two models, and a batch as each of them takes it."""

    ours: nn.Module
    theirs: nn.Module
    cfg: CfgNode
    batch: list[dict[str, Any]]
    inputs: dict[str, Any]


def blobs(count: int, height: int, width: int) -> Tensor:
    """Return ellipses, bool [count, H, W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre, radius = torch.rand(count, 2, 1, 1), 6 + 20 * torch.rand(count, 2, 1, 1)
    away = [(grid - centre[:, i] * size) / radius[:, i] for i, (grid, size) in enumerate([(y, height), (x, width)])]
    return away[0] ** 2 + away[1] ** 2 < 1


@pytest.fixture(params=["swin", "resnet18"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(hf, "sample_point", at_every_pixel)
    torch.manual_seed(3)
    theirs = their_model(request.param, train_num_points=PIXELS, oversample_ratio=1.0, importance_sample_ratio=1.0)
    theirs = theirs.double().train()
    cfg = configuration(request.param)
    cfg.MODEL.MASK_FORMER.MASK_LOSS = "EveryPixel"
    cfg.MODEL.MASK_FORMER.CLASS_WEIGHT, cfg.MODEL.MASK_FORMER.MASK_WEIGHT = 2.0, 5.0
    cfg.MODEL.MASK_FORMER.DICE_WEIGHT = 5.0
    cfg.MODEL.SWIN.DROP_PATH_RATE, cfg.MODEL.RESNETS.NORM = 0.0, "BN"
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 1e-3, 0.05
    ours = build_model(cfg)
    assert not ours.load_state_dict(from_hf(theirs.state_dict()), strict=False).missing_keys
    ours = ours.double().train()
    ours.criterion.float()

    batch = []
    for count, (height, width) in ((3, PADDED), (5, (90, 130))):  # the second image is padded
        target = Instances((height, width))
        target.gt_masks, target.gt_classes = blobs(count, height, width), torch.randint(CLASSES, (count,))
        batch.append({"image": torch.randint(256, (3, height, width), dtype=torch.uint8), "instances": target})
    masks = [x["instances"].gt_masks.double() for x in batch]
    masks = [nn.functional.pad(x, (0, PADDED[1] - x.shape[2], 0, PADDED[0] - x.shape[1])) for x in masks]
    inputs = {"pixel_values": ours.preprocess(batch).images.tensor, "mask_labels": masks}
    inputs["class_labels"] = [x["instances"].gt_classes for x in batch]
    return Pair(ours, theirs, cfg, batch, inputs)


def far_apart(ours: dict[str, Tensor], theirs: dict[str, Tensor], relative: float, floor: float) -> dict[str, float]:
    """Return the tensors whose difference is above ``relative`` of their norm, and by how much.

    Args:
        floor: differences of a smaller norm pass: a gradient that is zero in exact numbers is noise here (biases of
            attention's keys, of convolutions before a normalisation).
    """
    distances = {}
    for name, value in ours.items():
        distance = (value.double() - theirs[name]).norm().item()
        if distance > relative * theirs[name].norm().item() + floor:
            distances[name] = distance / theirs[name].norm().item()
    return distances


def test_one_step(pair: Pair) -> None:
    """Loss, every gradient and every updated weight."""
    losses = pair.ours(pair.batch)
    loss = sum(losses.values())
    loss.backward()
    expected = pair.theirs(**pair.inputs).loss
    expected.backward()
    assert len(losses) == 3 * 4 and expected > 1
    torch.testing.assert_close(loss.double(), expected.reshape(()), rtol=1e-5, atol=0)

    gradients = to_hf({name: parameter.grad for name, parameter in pair.ours.named_parameters()})
    wanted = {name: x.grad for name, x in pair.theirs.named_parameters() if UNUSED not in name}
    assert gradients.keys() == wanted.keys() and len(gradients) > 100
    whole = torch.stack([gradient.norm() for gradient in wanted.values()]).norm().item()
    assert not far_apart(gradients, wanted, 1e-4, 1e-9 * whole)
    assert sum(gradient.norm().item() > 1e-6 * whole for gradient in wanted.values()) > 0.9 * len(wanted)

    their_step = their_training(pair)
    their_step()
    our_training(pair, 1)
    assert_same_weights(pair, 1e-4)


def test_ten_steps(pair: Pair) -> None:
    """AdamW with clipping: the weights have moved, and by the same."""
    before = {name: value.clone() for name, value in pair.theirs.state_dict().items()}
    step = their_training(pair)
    losses = [step() for _ in range(10)]
    found = our_training(pair, 10)
    assert losses[-1] < 0.98 * losses[0]
    assert found == pytest.approx(losses, rel=1e-3)
    moved = assert_same_weights(pair, 1e-3)
    whole = sum((moved[name] - before[name]).norm() ** 2 for name in moved) ** 0.5
    apart = sum((moved[name] - value).norm() ** 2 for name, value in to_hf(parameters(pair.ours)).items()) ** 0.5
    assert apart < 1e-2 * whole  # of the way that they went; small gradients are as large as others to Adam


def their_training(pair: Pair) -> Any:
    """Return a function that makes a step of their model and returns its loss before it.

    Rates and weight decay as published: the backbone learns at a tenth; norms and embeddings do not decay, nor do
    tables of positions.
    """
    groups = []
    for module_name, module in pair.theirs.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            rate = 1e-4 if "pixel_level_module.encoder" in module_name else 1e-3
            free = isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)) or "table" in name
            groups.append({"params": [parameter], "lr": rate, "weight_decay": 0.0 if free else 0.05})
    optimizer = torch.optim.AdamW(groups, foreach=False)

    def step() -> float:
        optimizer.zero_grad()
        loss = pair.theirs(**pair.inputs).loss
        loss.backward()
        assert nn.utils.clip_grad_norm_(pair.theirs.parameters(), CLIP) > CLIP
        optimizer.step()
        return loss.item()

    return step


def our_training(pair: Pair, steps: int) -> list[float]:
    """Make steps of our model by our trainer's step and optimiser; return the losses before each."""
    optimizer = build_optimizer(pair.cfg, pair.ours)
    trainer = TrainStep(
        pair.ours, itertools.repeat(pair.batch), optimizer, precision=AmpSettings("cpu"), max_grad_norm=CLIP
    )
    losses = []
    with EventStorage() as storage:
        for trainer.iter in range(steps):
            trainer.run_step()
            losses.append(storage.latest()["total_loss"][0])
    return losses


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def assert_same_weights(pair: Pair, relative: float) -> dict[str, Tensor]:
    ours, theirs = to_hf(parameters(pair.ours)), parameters(pair.theirs)
    theirs = {name: value for name, value in theirs.items() if UNUSED not in name}
    assert ours.keys() == theirs.keys()
    assert not far_apart(ours, theirs, relative, 0.0)
    return theirs
