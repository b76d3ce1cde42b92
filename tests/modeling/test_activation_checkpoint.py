"""Activation checkpointing changes memory alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from torch import Tensor, nn

from mask2former.config import load_config
from mask2former.modeling.activation_checkpoint import checkpoint_activations

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.DEC_LAYERS", "3"),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "6", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64"),
    *("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"),
]


def build(config: str, parts: str, *options: str, device: str = "cpu") -> nn.Module:
    """Build it on the CPU, for the same random weights everywhere."""
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / config), [*SMALL, *options, "MODEL.CHECKPOINT", parts])
    return build_model(cfg).train().to(device)


def batch() -> list[dict[str, Any]]:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:40, 4:34] = True
    masks[1] = ~masks[0]
    instances = Instances((64, 64), gt_masks=BitMasks(masks), gt_classes=torch.tensor([0, 1]))
    image = torch.arange(3 * 64 * 64).remainder(251).view(3, 64, 64).to(torch.uint8)
    return [{"image": image, "instances": instances}, {"image": image.flip(1), "instances": instances}]


def step(model: nn.Module) -> tuple[dict[str, Tensor], int]:
    """Losses, and numbers that were kept for the backward pass; gradients are in the model."""
    kept = 0

    def count(x: Tensor) -> Tensor:
        nonlocal kept
        kept += x.numel()
        return x

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        losses = model(batch())
    sum(losses.values()).backward()
    return losses, kept


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("quickstart/panoptic.yaml", ("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0")),
        ("quickstart/maskformer.yaml", ()),  # with dropout, which has to drop the same again
        ("coco/panoptic/swin.yaml", ("MODEL.SWIN.EMBED_DIM", "24", "MODEL.SWIN.DEPTHS", "[1, 1, 1, 1]")),
    ],
)
def test_losses_gradients_and_statistics_are_the_same(config: str, options: tuple[str, ...], device: str) -> None:
    plain = build(config, "[]", *options, device=device)
    names = ["backbone", "pixel_decoder", "transformer_decoder"]
    if "maskformer" in config:
        names.remove("pixel_decoder")
    saving = build(config, str(names), *options, device=device)
    (losses, kept), (expected, kept_plain) = step(saving), step(plain)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])
    # On a GPU gradients meet in any order, and a sum that is nearly nothing is off by parts of its terms.
    loose = {"rtol": 1e-3, "atol": 1e-4} if device == "cuda" else {}
    parameters = dict(plain.named_parameters())
    for name, parameter in saving.named_parameters():
        torch.testing.assert_close(parameter.grad, parameters[name].grad, msg=name, **loose)
    buffers = dict(plain.named_buffers())
    for name, buffer in saving.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], msg=name)
    assert kept < 0.8 * kept_plain


def test_model_can_be_copied_and_evaluated() -> None:
    model = build("quickstart/panoptic.yaml", "['backbone', 'pixel_decoder', 'transformer_decoder']")
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert any(parameter.abs().sum() > 0 for parameter in model.parameters())
    losses, _ = step(other)  # runs on its own layers, not on those it was copied from
    assert all(p.grad is None for p in model.parameters()) and all(loss.isfinite() for loss in losses.values())


def test_what_cannot_be_recomputed_is_named() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.CHECKPOINT names 'stem'; choose from backbone, pixel_decoder"):
        checkpoint_activations(["stem"], {"backbone": nn.Identity(), "pixel_decoder": nn.Identity()})
    with pytest.raises(ValueError, match=r"names 'backbone', but Linear has no layers of a known kind"):
        checkpoint_activations(["backbone"], {"backbone": nn.Linear(1, 1)})
