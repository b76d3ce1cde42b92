"""Whole models on a GPU: the numbers of a CPU, half precision, and how often a training step waits."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mask2former.config import load_config
from mask2former.engine.precision import AmpSettings
from mask2former.engine.train_step import TrainStep

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from benchmarks.waits import waits_of  # noqa: E402

CONFIG = ROOT / "configs" / "quickstart" / "panoptic.yaml"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.DEC_LAYERS", "3"),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "6", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64"),
    *("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False", "MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"),
    *("MODEL.MASK_FORMER.TEST.SEMANTIC_ON", "True"),
]
FOCAL = ("MODEL.MASK_FORMER.MASK_LOSS", "focal")  # of all pixels: points are drawn differently on each device
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def build(device: str, *options: str) -> nn.Module:
    """Build it on the CPU, for the same random weights everywhere."""
    torch.manual_seed(0)
    return build_model(load_config(str(CONFIG), [*SMALL, *options])).to(device)


def batch(device: str = "cpu") -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 10:40, 4:34] = True
    masks[1] = ~masks[0]
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=generator, dtype=torch.uint8)
    instances = Instances((64, 96), gt_masks=BitMasks(masks), gt_classes=torch.tensor([0, 1]))
    return [{"image": image.to(device), "instances": instances.to(device)} for image in images]


def losses_and_gradients(
    model: nn.Module, precision: AmpSettings, device: str
) -> tuple[dict[str, Tensor], list[Tensor]]:
    torch.manual_seed(1)
    with precision.autocast():
        losses = model.train()(batch(device))
    parameters = list(model.parameters())
    return losses, list(torch.autograd.grad(sum(losses.values()), parameters))


def off_the_grid(model: nn.Module) -> nn.Module:
    """Move a new model's sampling points off the pixels' centres, where bilinear sampling has no single gradient.

    At initialisation their offsets are whole pixels, so that rounding decides between gradients that differ by a tenth.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("sampling_offsets.bias"):
                parameter += 0.3
    return model


def assert_gradients_agree(grads: list[Tensor], expected: list[Tensor]) -> None:
    """Compare directions and lengths, since a ReLU at zero moves single numbers by any amount."""
    largest = max(grad.norm().item() for grad in expected)
    for grad, other in zip(grads, expected, strict=True):
        assert (grad.cpu() - other).norm() <= 1e-2 * other.norm() + 1e-5 * largest


@pytest.mark.parametrize("seed", range(3))
def test_rounding_changes_gradients_little(seed: int) -> None:
    """The bound of the comparison with a GPU holds for errors in the last digit of the weights, on one device."""
    model, other = off_the_grid(build("cpu", *FOCAL)), off_the_grid(build("cpu", *FOCAL))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1 + 2e-7 * torch.randn(parameter.shape, generator=generator)
    (_, grads), (_, expected) = (losses_and_gradients(one, AmpSettings("cpu"), "cpu") for one in (other, model))
    assert_gradients_agree(grads, expected)


@pytest.mark.gpu
def test_scores_losses_and_gradients_are_those_of_a_cpu() -> None:
    here, there = off_the_grid(build("cpu", *FOCAL)), off_the_grid(build("cuda", *FOCAL))
    (losses, grads), (expected, expected_grads) = (
        losses_and_gradients(model, AmpSettings(device), device) for model, device in ((there, "cuda"), (here, "cpu"))
    )
    for name, loss in losses.items():
        torch.testing.assert_close(loss.cpu(), expected[name], rtol=1e-4, atol=1e-4)
    assert_gradients_agree(grads, expected_grads)
    with torch.no_grad():
        ours, theirs = (model.eval()(batch())[0]["sem_seg"] for model in (there, here))
    torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.bfloat16),
        pytest.param("cuda", torch.bfloat16, marks=pytest.mark.gpu),
        pytest.param("cuda", torch.float16, marks=pytest.mark.gpu),
    ],
)
def test_autocast_changes_losses_little_and_leaves_gradients_in_float32(device: str, dtype: torch.dtype) -> None:
    model = build(device)
    plain, _ = losses_and_gradients(model, AmpSettings(device), device)
    losses, grads = losses_and_gradients(model, AmpSettings(device, dtype), device)
    total, expected = (sum(x.item() for x in one.values()) for one in (losses, plain))
    assert total == pytest.approx(expected, rel=0.1) and total != expected
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)
    assert any(grad.any() for grad in grads)


@pytest.mark.parametrize("device", DEVICES)
def test_training_in_half_precision_lowers_the_loss(device: str) -> None:
    model = build(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    precision = AmpSettings(device, torch.float16 if device == "cuda" else torch.bfloat16)
    step = TrainStep(model, itertools.repeat(batch()), optimizer, precision=precision, max_grad_norm=1.0)
    totals = []
    with EventStorage() as storage:
        for step.iter in range(12):
            step.run_step()
            totals.append(storage.latest()["total_loss"][0])
    assert sum(totals[-3:]) < 0.9 * sum(totals[:3])


@pytest.mark.gpu
def test_whole_training_step_on_a_gpu_waits_once() -> None:
    """For the matching of all images and layers; what comes from the data loader is there already."""
    model, given = build("cuda").train(), batch("cuda")

    def step() -> None:
        sum(model(given).values()).backward()

    step()  # loads kernels
    places = waits_of(step)
    assert sum(places.values()) == 1, places
