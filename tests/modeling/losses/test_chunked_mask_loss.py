"""Losses of matched masks, taken some at a time, against all of them at once with autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mask2former.modeling.losses import chunked_mask_loss
from mask2former.modeling.losses.chunked_mask_loss import MatchedMaskLosses, MatchedTargets
from mask2former.modeling.losses.pixel_losses import DenseFocalLoss, MaskLoss, PointCrossEntropy


class SamePoints(PointCrossEntropy):
    """Which points are drawn then does not depend on how many masks are taken at once."""

    def choose_points(self, logits: Tensor) -> Tensor:
        places = torch.rand(self.num_points, 2, generator=torch.Generator().manual_seed(0))
        return places.expand(len(logits), -1, -1).to(logits.dtype)


def case(frames: int, channels_last: bool) -> tuple[list[MatchedTargets], Tensor, list[Tensor]]:
    """Two images, the first with three masks in two layers each, the second with some rows of its masks only."""
    features = torch.randn(2, 4, frames, 8, 12, dtype=torch.float64)
    if channels_last:
        features = features.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    images = []
    for count, chosen in ((3, [0, 0, 1, 1, 2, 2]), (4, [0, 0, 1, 3, 3])):
        rows = (torch.tensor(chosen)[:, None] * frames + torch.arange(frames)).flatten()
        images.append(MatchedTargets(torch.rand(count * frames, 16, 24) > 0.5, rows, 2))
    return images, features, [torch.randn(n, 4, dtype=torch.float64) for n in (6, 5)]


def at_once(mask_loss: MaskLoss, image: MatchedTargets, feature: Tensor, embed: Tensor) -> Tensor:
    logits = torch.einsum("rc,cthw->rthw", embed, feature).flatten(0, 1)
    x, truth = mask_loss.gather(logits, image.masks, image.rows, mask_loss.choose_points(logits))
    p = x.sigmoid()
    dice = 1 - (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
    return torch.stack([mask_loss.pixel_loss(x, truth).mean(1), dice])


@pytest.mark.parametrize("most", [1, 4, 64])
@pytest.mark.parametrize(("frames", "channels_last"), [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("mask_loss", [SamePoints(40), DenseFocalLoss()], ids=lambda x: type(x).__name__)
def test_same_losses_and_gradients(
    mask_loss: MaskLoss, frames: int, channels_last: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunked_mask_loss._AT_ONCE, "cpu", most)
    images, features, embeds = case(frames, channels_last)
    weights = [torch.randn(2, len(image.rows), dtype=torch.float64) for image in images]
    leaves = [x.requires_grad_() for x in (features, *embeds)]
    results = []
    for together in (False, True):
        if together:
            losses = [at_once(mask_loss, *x) for x in zip(images, features, embeds, strict=True)]
        else:
            losses = list(MatchedMaskLosses.apply(mask_loss, images, features, *embeds))
        total = sum((loss * weight).sum() for loss, weight in zip(losses, weights, strict=True))
        results.append([*losses, *torch.autograd.grad(total, leaves)])
    for found, expected in zip(*results, strict=True):
        # Truth is read in single precision.
        torch.testing.assert_close(found, expected.to(found.dtype), atol=1e-6, rtol=1e-5)


def test_what_is_kept_does_not_hold_logits() -> None:
    """For each mask only its points: two numbers each, less than its logits."""
    images, features, embeds = case(1, False)
    leaves = [x.requires_grad_() for x in (features, *embeds)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        MatchedMaskLosses.apply(SamePoints(5), images, features, *embeds)
    places = [(6, 5, 2), (5, 5, 2)]
    assert [tuple(x.shape) for x in kept] == [*(tuple(x.shape) for x in leaves), *places]
