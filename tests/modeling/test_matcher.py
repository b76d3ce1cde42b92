"""The matcher against its definition, computed pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mask2former.modeling.losses.pixel_losses import PointCrossEntropy
from mask2former.modeling.matcher import HungarianMatcher
from mask2former.structures import FactoredMasks, MaskPrediction, MaskTargets

WEIGHTS = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0}


def random_prediction(images: int, queries: int, classes: int, frames: int, size: tuple[int, int]) -> MaskPrediction:
    masks = FactoredMasks(torch.randn(images, queries, 6), torch.randn(images, 6, frames, *size))
    return MaskPrediction(torch.randn(images, queries, classes + 1), masks)


def random_target(count: int, classes: int, frames: int, size: tuple[int, int]) -> MaskTargets:
    return MaskTargets(torch.randint(0, classes, (count,)), torch.rand(count, frames, *size) > 0.5)


def slow_cost(prediction: MaskPrediction, image: int, target: MaskTargets, points: torch.Tensor) -> np.ndarray:
    """One pair after another, over frames read at ``points`` by PyTorch's own sampling."""
    logits = prediction.masks.logits()[image]
    grid = (2 * points - 1)[None, None]

    def read(mask: torch.Tensor) -> torch.Tensor:  # [T, H, W] -> [T * P]
        return torch.cat([F.grid_sample(frame[None, None], grid, align_corners=False).flatten() for frame in mask])

    cost = np.zeros((len(logits), len(target)))
    for q, n in itertools.product(range(len(logits)), range(len(target))):
        x, t = read(logits[q]), read(target.masks[n].float())
        p = x.sigmoid()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        probability = prediction.class_logits[image, q].softmax(0)[target.classes[n]]
        cross_entropy = F.binary_cross_entropy_with_logits(x, t)
        cost[q, n] = -2.0 * probability + 5.0 * cross_entropy + 5.0 * dice
    return cost


@pytest.mark.parametrize("frames", [1, 3])
def test_cost_equals_definition(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.rand(50, 2)
    prediction = random_prediction(2, 5, 4, frames, (6, 9))
    target = random_target(3, 4, frames, (24, 36))
    matcher = HungarianMatcher(**WEIGHTS, mask_loss=PointCrossEntropy(50))
    monkeypatch.setattr(torch, "rand", lambda *size, **_: points)
    for image in range(2):
        (cost,) = matcher.cost([prediction], image, target)
        np.testing.assert_allclose(cost, slow_cost(prediction, image, target, points), atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    queries=st.integers(1, 5),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    frames=st.integers(1, 2),
    layers=st.integers(1, 3),
)
def test_assignment_is_the_cheapest(queries: int, counts: list[int], frames: int, layers: int) -> None:
    """Of all assignments, tried one by one; every layer and image matched by itself."""
    predictions = [random_prediction(len(counts), queries, 3, frames, (4, 4)) for _ in range(layers)]
    features = predictions[0].masks.mask_features
    predictions = [MaskPrediction(p.class_logits, FactoredMasks(p.masks.mask_embed, features)) for p in predictions]
    targets = [random_target(n, 3, frames, (8, 8)) for n in counts]
    matcher = HungarianMatcher(**WEIGHTS, mask_loss=PointCrossEntropy(20))
    costs: list[torch.Tensor] = []
    original = matcher.cost
    matcher.cost = lambda *args: costs.append(original(*args)) or costs[-1]  # type: ignore[method-assign]
    matchings = matcher(predictions, targets)
    for layer, image in itertools.product(range(layers), range(len(counts))):
        rows, columns = (indices[layer] for indices in matchings[image])
        cost = costs[image][layer]
        assert len(rows) == len(columns) == min(queries, counts[image])
        assert len(set(rows.tolist())) == len(rows) and len(set(columns.tolist())) == len(columns)
        small, large = sorted(cost.shape)
        wide = cost if cost.shape[0] <= cost.shape[1] else cost.T
        best = min(
            (sum(wide[i, j].item() for i, j in enumerate(p)) for p in itertools.permutations(range(large), small)),
            default=0.0,
        )
        assert cost[rows, columns].sum().item() == pytest.approx(best, abs=1e-4)


def test_costs_that_are_not_finite_do_not_crash_and_are_counted() -> None:
    prediction = random_prediction(1, 4, 3, 1, (4, 4))
    prediction.class_logits[:] = float("nan")
    prediction.masks.mask_embed[0, 0] = float("inf")
    matcher = HungarianMatcher(**WEIGHTS, mask_loss=PointCrossEntropy(20))
    target = random_target(2, 3, 1, (8, 8))
    ((rows, columns),) = matcher([prediction], [target])
    assert rows.shape == columns.shape == (1, 2)
    assert matcher.nonfinite_costs == 8
    with EventStorage() as storage:
        matcher([random_prediction(1, 4, 3, 1, (4, 4))], [target])
        assert "matcher_nonfinite_costs" not in storage.latest()
        matcher([prediction], [target])
    assert storage.latest()["matcher_nonfinite_costs"] == (16, 0)
