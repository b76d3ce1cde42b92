"""Losses of the auxiliary semantic branch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pq_oracle import mean_of_nonzero
from pq_scenes import CLASSES, case, prediction
from torch import Tensor

from mask2former.modeling.losses.pq_targets import GridTargets
from mask2former.modeling.losses.sampled_semantic import SampledSemanticLoss, SemanticLoss
from mask2former.modeling.pq_matcher import PQMatcher
from mask2former.structures import SEMANTIC, MaskPrediction, MaskTargets

SIZE = (5, 9)


def with_semantic(layer: MaskPrediction, size: tuple[int, int], classes: int = CLASSES + 1) -> Tensor:
    logits = torch.randn(len(layer.class_logits), classes, *size, dtype=torch.float64, requires_grad=True)
    layer.extras[SEMANTIC] = logits
    return logits


def cross_entropies(logits: Tensor, labels: list[int], weights: list[float]) -> Tensor:
    terms = []
    for p, (label, weight) in enumerate(zip(labels, weights, strict=True)):
        if label >= 0:
            terms.append(-weight * (logits[label, p] - logits[:, p].exp().sum().log()))
    return mean_of_nonzero(terms)


@pytest.mark.parametrize("crowd", [0.0, 0.5])
@pytest.mark.parametrize("count", [0, 4096], ids=["all", "more than there are"])
def test_all_pixels(count: int, crowd: float) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    cases = [case(generator, 3, SIZE, crowd=crowd), case(generator, 2, SIZE, crowd=crowd)]
    layer, targets = prediction(generator, 2, 5, SIZE), [one.target for one in cases]
    logits = with_semantic(layer, SIZE)
    found = SampledSemanticLoss(count=count)([layer], targets, PQMatcher()([layer], targets))["loss_aux_semantic"]
    of_images = []
    for image, one in zip(logits, cases, strict=True):
        assert one.scene.labels is not None
        of_images.append(cross_entropies(image.flatten(1), one.scene.labels, [1.0] * 45))
    expected = torch.stack(of_images).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


def test_drawn_pixels_alone_have_a_gradient() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    one, layer = case(generator, 3, SIZE), prediction(generator, 1, 5, SIZE)
    logits = with_semantic(layer, SIZE)
    loss = SampledSemanticLoss(count=7)([layer], [one.target], PQMatcher()([layer], [one.target]))["loss_aux_semantic"]
    (gradient,) = torch.autograd.grad(loss, logits)
    touched = gradient[0].abs().sum(0) > 0
    assert touched.sum() == 7 and not (touched & ~one.target.masks[:, 0].any(0)).any()


def test_coarser_logits_take_every_so_many_labels() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)
    one, layer = case(generator, 3, SIZE), prediction(generator, 1, 5, SIZE)
    logits = with_semantic(layer, (2, 3), CLASSES)
    loss = SampledSemanticLoss(count=0)([layer], [one.target], PQMatcher()([layer], [one.target]))["loss_aux_semantic"]
    assert one.scene.labels is not None
    labels = torch.tensor(one.scene.labels).view(SIZE)[::4, ::4].flatten().tolist()
    torch.testing.assert_close(loss, cross_entropies(logits[0].flatten(1), labels, [1.0] * 6))


def test_other_sizes_are_resized() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(3)
    one, layer = case(generator, 3, SIZE), prediction(generator, 1, 5, SIZE)
    logits = with_semantic(layer, (4, 5))
    loss = SampledSemanticLoss(count=0)([layer], [one.target], PQMatcher()([layer], [one.target]))["loss_aux_semantic"]
    resized = torch.nn.functional.interpolate(logits, size=SIZE, mode="bilinear", align_corners=True)
    assert one.scene.labels is not None
    torch.testing.assert_close(loss, cross_entropies(resized[0].flatten(1), one.scene.labels, [1.0] * 45))


def test_small_things_weigh_more() -> None:
    """By their area in the input, where that is known; small stuff does not."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(4)
    one, layer = case(generator, 3, SIZE, crowd=0.5), prediction(generator, 1, 5, SIZE)
    classes = torch.tensor([0, 1, 4])
    target = MaskTargets(classes, one.target.masks, one.target.void, one.target.semantic)
    grid = GridTargets(**vars(target), areas=torch.tensor([5000, 100, 100]))
    logits = with_semantic(layer, SIZE)
    term = SemanticLoss(things=[0, 1], small_weight=3.0)
    assert one.scene.labels is not None

    def expected(small: list[int]) -> Tensor:
        weights = [3.0 if any(p in one.scene.masks[i] for i in small) else 1.0 for p in range(45)]
        assert one.scene.labels is not None
        return cross_entropies(logits[0].flatten(1), one.scene.labels, weights)

    torch.testing.assert_close(term([layer], [grid], [])["loss_aux_semantic"], expected([1]))
    torch.testing.assert_close(term([layer], [target], [])["loss_aux_semantic"], expected([0, 1]))
    even = SemanticLoss(things=[0, 1])([layer], [grid], [])["loss_aux_semantic"]
    torch.testing.assert_close(even, expected([]))


def test_a_network_without_the_branch_is_refused() -> None:
    layer = dataclasses.replace(prediction(torch.Generator(), 1, 3, SIZE), extras={})
    with pytest.raises(ValueError, match="names SampledSemanticLoss, but the network has no auxiliary semantic branch"):
        SampledSemanticLoss()([layer], [], [])
