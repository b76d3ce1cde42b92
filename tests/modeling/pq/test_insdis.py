"""Instance discrimination and the draws of pixels."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pq_oracle import mean_feature_loss, pairwise_loss
from pq_scenes import case, dense, gradients, leaves, prediction
from torch.utils._python_dispatch import TorchDispatchMode

from mask2former.modeling.losses.insdis import InsDisLoss, PairwiseInsDisLoss, pairwise_discrimination
from mask2former.modeling.losses.pixel_draw import draw_pixels
from mask2former.modeling.losses.slot_masks import pixel_features
from mask2former.modeling.pq_matcher import PQMatcher

SIZE = (5, 7)


@pytest.mark.parametrize(("count", "slots"), [(3, 6), (5, 3), (0, 4)])
def test_pairs_of_all_pixels_equal_the_formula(count: int, slots: int) -> None:
    """With more pixels wanted than there are, all are drawn; void ones are others' opposites alone."""
    generator = torch.Generator().manual_seed(count)
    cases = [case(generator, count, SIZE), case(generator, max(count - 1, 0), SIZE)]
    layers = [prediction(generator, 2, slots, size) for size in ((2, 3), SIZE)]
    targets = [one.target for one in cases]
    matchings = PQMatcher()(layers, targets)
    found = PairwiseInsDisLoss(count=4096)(layers, targets, matchings)["loss_pixel_insdis"]
    expected = []
    for index, layer in enumerate(layers):
        of_images = []
        for image, (one, (rows, columns)) in enumerate(zip(cases, matchings, strict=True)):
            pairs = list(zip(rows[index].tolist(), columns[index].tolist(), strict=True))
            scene = dataclasses.replace(one.scene, matched=pairs)
            of_images.append(pairwise_loss(scene, dense(layer, image, SIZE)[1], list(range(35))))
        expected.append(torch.stack(of_images).mean())
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-9, rtol=1e-6)
    ours, wanted = (gradients(loss.sum(), leaves(layers)) for loss in (found, torch.stack(expected)))
    torch.testing.assert_close(ours, wanted, atol=1e-9, rtol=1e-6)


def test_drawn_pairs_equal_the_formula() -> None:
    generator = torch.Generator().manual_seed(5)
    one, layer = case(generator, 4, SIZE), prediction(generator, 1, 6, (3, 4))
    scene = dataclasses.replace(one.scene, matched=[(0, 0), (1, 1), (2, 2), (3, 3)])
    drawn = [3, 30, 12, 8, 0, 34, 21]
    features = pixel_features(layer, torch.tensor([drawn]), SIZE)[0]
    truth = one.target.masks.flatten(1)[:, drawn].double()
    expected = pairwise_loss(scene, dense(layer, 0, SIZE)[1], drawn)
    found = pairwise_discrimination(features[None], truth[None], 0.3)
    torch.testing.assert_close(found, expected[None], atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("count", [4, 0])
def test_means_equal_the_formula(count: int) -> None:
    generator = torch.Generator().manual_seed(6)
    one = case(generator, count, SIZE)
    layer, things = prediction(generator, 1, 6, (3, 4)), {0, 1, 2}
    found = InsDisLoss(things=sorted(things))([layer], [one.target], [])["loss_pixel_insdis"]
    expected = mean_feature_loss(one.scene, dense(layer, 0, SIZE)[1], things)
    torch.testing.assert_close(found[0], expected, atol=1e-9, rtol=1e-6)
    ours, wanted = (gradients(loss.sum(), leaves([layer])) for loss in (found, expected))
    torch.testing.assert_close(ours, wanted, atol=1e-9, rtol=1e-6)


class Largest(TorchDispatchMode):
    """The greatest number of elements that an operation gave."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def test_similarities_are_never_whole() -> None:
    count, images = 2048, 3
    features = torch.randn(images, 4, count, requires_grad=True)
    truth = torch.nn.functional.one_hot(torch.arange(count) % 3).T.float().expand(images, -1, -1)
    with Largest() as largest:
        pairwise_discrimination(features, truth, 0.3).sum().backward()
    assert images * count < largest.elements <= images * count * count // 6
    assert features.grad is not None and features.grad.any()


def test_draws_follow_their_distribution() -> None:
    """The first pixel drawn is one of area a with a probability proportional to a ** -temperature."""
    torch.manual_seed(0)
    area = torch.tensor([1.0, 2, 2, 4, 4, 4, 4])
    weights = area**-1.5
    counts = torch.zeros(7)
    for _ in range(4000):
        counts[draw_pixels(area, torch.zeros(7, dtype=torch.bool), 1, 1.5)] += 1
    expected = weights / weights.sum()
    assert ((counts / 4000 - expected).abs() < 4 * (expected * (1 - expected) / 4000).sqrt()).all()


def test_draws_are_without_replacement_and_void_comes_last() -> None:
    torch.manual_seed(1)
    void = torch.tensor([True, False] * 10)
    area = torch.full((20,), 5.0)
    for count in (3, 10, 15, 50):
        drawn = draw_pixels(area, void, count, 1.5)
        assert len(drawn) == len(drawn.unique()) == min(count, 20)
        assert void[drawn].sum() == max(min(count, 20) - 10, 0)
    assert len({tuple(draw_pixels(area, void, 3, 1.5).tolist()) for _ in range(20)}) > 10
