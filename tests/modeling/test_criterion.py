"""The criterion against dense formulas, with points at all pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.criterion import SetCriterion
from mask2former.modeling.losses import pixel_losses
from mask2former.modeling.losses.pixel_losses import DenseFocalLoss, MaskLoss, PointCrossEntropy
from mask2former.modeling.losses.terms import ClassLoss, LossTerm, MaskAndDiceLoss
from mask2former.modeling.matcher import HungarianMatcher
from mask2former.structures import DenseMasks, FactoredMasks, MaskPrediction, Masks, MaskTargets

CLASSES, QUERIES, SIZE = 5, 7, (8, 12)
WEIGHTS = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 3.0}


def make_criterion(mask_loss: MaskLoss | None = None, deep_supervision: bool = True) -> SetCriterion:
    mask_loss = mask_loss or PointCrossEntropy(64)
    terms = [
        ClassLoss(num_classes=CLASSES, weight=WEIGHTS["class_weight"], no_object_weight=0.1),
        MaskAndDiceLoss(mask_loss=mask_loss, mask_weight=WEIGHTS["mask_weight"], dice_weight=WEIGHTS["dice_weight"]),
    ]
    matcher = HungarianMatcher(**WEIGHTS, mask_loss=mask_loss)
    return SetCriterion(matcher=matcher, terms=terms, deep_supervision=deep_supervision)


def make_prediction(images: int, frames: int = 1, layers: int = 3, shared: bool = True) -> MaskPrediction:
    """``shared``: all layers have the same features; otherwise each has its own."""
    features = [torch.randn(images, 6, frames, *SIZE, requires_grad=True) for _ in range(1 if shared else layers)]
    predictions = [
        MaskPrediction(
            torch.randn(images, QUERIES, CLASSES + 1, requires_grad=True),
            FactoredMasks(torch.randn(images, QUERIES, 6, requires_grad=True), features[0 if shared else layer]),
        )
        for layer in range(layers)
    ]
    return MaskPrediction(predictions[-1].class_logits, predictions[-1].masks, aux=predictions[:-1])


def make_targets(counts: list[int], frames: int = 1, size: tuple[int, int] = SIZE) -> list[MaskTargets]:
    """At the size of the logits all pixels can be points, and sampling reads them exactly."""
    return [MaskTargets(torch.randint(0, CLASSES, (n,)), torch.rand(n, frames, *size) > 0.6) for n in counts]


def pixel_centres(logits: Tensor, *_: object, **__: object) -> Tensor:
    height, width = logits.shape[-2:]
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1).expand(len(logits), -1, -1)


def focal(logits: Tensor, truth: Tensor) -> Tensor:
    """RetinaNet's formulas (arXiv 1708.02002, equations 2 to 5), mean over pixels."""
    p = logits.double().sigmoid()
    p_t = torch.where(truth > 0.5, p, 1 - p)
    alpha_t = torch.where(truth > 0.5, 0.25, 0.75)
    return (-alpha_t * (1 - p_t) ** 2 * p_t.log()).mean().float()


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("shared", [True, False], ids=["shared features", "own features"])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("kind", ["points", "focal"])
def test_equals_dense_formulas(kind: str, frames: int, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points at all pixels of masks as large as the logits; focal over masks four times as large."""
    monkeypatch.setattr(pixel_losses, "uncertain_points", pixel_centres)
    size = SIZE if kind == "points" else (4 * SIZE[0], 4 * SIZE[1])
    of_pixels = F.binary_cross_entropy_with_logits if kind == "points" else focal
    criterion = make_criterion(PointCrossEntropy(64) if kind == "points" else DenseFocalLoss())
    prediction, targets = make_prediction(2, frames, shared=shared), make_targets([3, 4], frames, size)
    layers = [*prediction.aux, prediction]
    torch.manual_seed(1)
    matchings = criterion.matcher(layers, targets)
    torch.manual_seed(1)  # the same points for the matching inside
    losses = criterion(prediction, targets)
    assert set(losses) == {f"loss_{n}{s}" for n in ("ce", "mask", "dice") for s in ("_0", "_1", "")}
    for index, (layer, suffix) in enumerate(zip(layers, ("_0", "_1", ""), strict=True)):
        mask_loss = dice = torch.zeros(())
        wanted = torch.full((2, QUERIES), CLASSES)
        for image, (rows, columns) in enumerate(matchings):
            for q, n in zip(rows[index], columns[index], strict=True):
                wanted[image, q] = targets[image].classes[n]
                for small, truth in zip(layer.masks.logits(image)[q], targets[image].masks[n].float(), strict=True):
                    logits = resized(small, size)
                    mask_loss = mask_loss + of_pixels(logits, truth)
                    p = logits.sigmoid()
                    dice = dice + 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        log_p = layer.class_logits.log_softmax(-1)
        weight = torch.where(wanted == CLASSES, 0.1, 1.0)
        classification = -(weight * log_p.gather(-1, wanted[..., None])[..., 0]).sum() / weight.sum()
        torch.testing.assert_close(losses["loss_ce" + suffix], 2.0 * classification)
        torch.testing.assert_close(losses["loss_mask" + suffix], 5.0 * mask_loss / 7)
        torch.testing.assert_close(losses["loss_dice" + suffix], 3.0 * dice / 7)


@pytest.mark.parametrize("frames", [1, 2])
def test_focal_matching_equals_dense_formulas(frames: int) -> None:
    """Over all pixels of the mask features, with every fourth pixel of masks four times as large (nearest)."""
    matcher = make_criterion(DenseFocalLoss()).matcher
    prediction, (target,) = make_prediction(1, frames), make_targets([3], frames, (4 * SIZE[0], 4 * SIZE[1]))
    (cost,) = matcher.cost([prediction], 0, target)
    for query, logits in enumerate(prediction.masks.logits(0)):
        for n, truth in enumerate(target.masks[:, :, ::4, ::4].float()):
            p = logits.sigmoid()
            dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
            probability = prediction.class_logits[0, query].softmax(0)[target.classes[n]]
            expected = -2.0 * probability + 5.0 * focal(logits, truth) + 3.0 * dice
            torch.testing.assert_close(cost[query, n], expected)


@pytest.mark.parametrize("mask_loss", [PointCrossEntropy(64), DenseFocalLoss()], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("counts", [[0, 0], [0, 3], [QUERIES + 4, 1]])
def test_few_and_many_objects(counts: list[int], mask_loss: MaskLoss) -> None:
    """No objects at all, and more than queries: finite, and every parameter gets a gradient (or DDP would hang)."""
    prediction = make_prediction(2)
    losses = make_criterion(mask_loss)(prediction, make_targets(counts))
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for layer in (*prediction.aux, prediction):
        assert layer.class_logits.grad is not None and layer.masks.mask_embed.grad is not None
    assert prediction.masks.mask_features.grad is not None
    if sum(counts) == 0:
        assert losses["loss_mask"] == 0 and losses["loss_dice"] == 0 and losses["loss_ce"] > 0


def test_without_deep_supervision_only_the_last_layer_counts() -> None:
    losses = make_criterion(deep_supervision=False)(make_prediction(1), make_targets([2]))
    assert set(losses) == {"loss_ce", "loss_mask", "loss_dice"}


def test_perfect_prediction_costs_nothing() -> None:
    targets = make_targets([3])
    truth = targets[0].masks.float()
    features = torch.cat([truth[:, 0], torch.ones(1, *SIZE)])[None, :, None]  # a channel each, and a constant
    embed = torch.cat([torch.eye(3) * 200, torch.full((3, 1), -100.0)], dim=1)[None]
    classes = F.one_hot(targets[0].classes, CLASSES + 1).float()[None] * 100
    losses = make_criterion()(MaskPrediction(classes, FactoredMasks(embed, features)), targets)
    assert losses["loss_ce"] < 1e-3
    # Points between pixels read blurred edges, where no prediction is perfect; away from them there is no loss.
    worst = make_criterion()(MaskPrediction(classes.flip(1), FactoredMasks(-embed, features)), targets)
    assert losses["loss_dice"] < worst["loss_dice"]


def with_own_features(images: int, layers: int = 3, dense: bool = False) -> MaskPrediction:
    """Layers of different features, and sizes of them, as decoders have that sharpen their features."""
    predictions = []
    for index in range(layers):
        size = (SIZE[0] * (index + 1), SIZE[1] * (index + 1))
        masks: Masks = FactoredMasks(
            torch.randn(images, QUERIES, 6, requires_grad=True), torch.randn(images, 6, 1, *size, requires_grad=True)
        )
        if dense and index:
            masks = DenseMasks(masks.logits().detach().requires_grad_())
        predictions.append(MaskPrediction(torch.randn(images, QUERIES, CLASSES + 1, requires_grad=True), masks))
    return MaskPrediction(predictions[-1].class_logits, predictions[-1].masks, aux=predictions[:-1])


@pytest.mark.parametrize("dense", [False, True])
def test_layers_of_different_sizes(dense: bool) -> None:
    """Every layer's losses are those that it has alone. (The focal loss draws no points.)"""
    prediction, targets = with_own_features(2, dense=dense), make_targets([3, 4], size=(32, 48))
    criterion = make_criterion(DenseFocalLoss())
    together = criterion(prediction, targets)
    for index, layer in enumerate([*prediction.aux, prediction]):
        alone = criterion(MaskPrediction(layer.class_logits, layer.masks), targets)
        suffix = f"_{index}" if index < len(prediction.aux) else ""
        for name, value in alone.items():
            torch.testing.assert_close(together[name + suffix], value)
    sum(together.values()).backward()  # type: ignore[union-attr]
    for layer in (*prediction.aux, prediction):
        assert layer.masks.features.grad.abs().sum() > 0


@pytest.mark.parametrize("frames", [1, 2])
def test_dense_masks_are_factored_masks_multiplied_out(frames: int) -> None:
    factored, targets = make_prediction(2, frames), make_targets([3, 4], frames)

    def multiplied(layer: MaskPrediction) -> MaskPrediction:
        return MaskPrediction(layer.class_logits, DenseMasks(layer.masks.logits()))

    dense = multiplied(factored)
    dense.aux = [multiplied(layer) for layer in factored.aux]
    criterion = make_criterion(DenseFocalLoss())  # whose matching draws no points
    found, expected = criterion(dense, targets), criterion(factored, targets)
    leaves = [factored.masks.features, *(x.masks.mask_embed for x in (*factored.aux, factored))]
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    gradients = [torch.autograd.grad(sum(losses.values()), leaves) for losses in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_masks_that_exclude_each_other_are_refused() -> None:
    prediction = make_prediction(1, layers=1)
    prediction.masks.activation = "softmax"
    with pytest.raises(ValueError, match="HungarianMatcher compares each mask by itself"):
        make_criterion()(prediction, make_targets([2]))


def test_a_term_of_ones_own() -> None:
    class Extra(LossTerm):
        def forward(self, layers: Any, targets: Any, matchings: Any) -> dict[str, Tensor]:
            return {"loss_extra": layers[-1].extras["pixels"].square().mean()}

    ours = make_criterion()
    criterion = SetCriterion(matcher=ours.matcher, terms=[*ours.terms, Extra()])
    prediction = make_prediction(1)
    prediction.extras["pixels"] = torch.full((1, 2), 3.0)
    losses = criterion(prediction, make_targets([2]))
    assert losses["loss_extra"] == 9 and "loss_extra_0" not in losses and "loss_ce_1" in losses
    with pytest.raises(ValueError, match="give the loss loss_extra; name only one of them"):
        SetCriterion(matcher=ours.matcher, terms=[Extra(), Extra()])(prediction, make_targets([2]))
