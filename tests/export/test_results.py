"""Post-processing without branches against the post-processing that models use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mask2former.export.panoptic import maskwise_map, panoptic_map, two_argmax_map
from mask2former.export.results import best_instances, semantic_map
from mask2former.modeling.postprocess import (
    MaskwiseMerger,
    MaskwiseThresholds,
    TwoArgmaxMerger,
    TwoArgmaxThresholds,
    instance_inference,
    panoptic_inference,
    semantic_inference,
)

QUERIES, CLASSES, SIZE = 20, 5, (24, 31)
THINGS = {0, 3}
IS_THING = torch.tensor([k in THINGS for k in range(CLASSES)])


def prediction(seed: int, sharpness: float = 3.0) -> tuple[Tensor, Tensor]:
    """Class logits that often agree on a class, and masks of smooth shapes, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = sharpness * torch.randn(QUERIES, CLASSES + 1, generator=generator)
    coarse = 4 * torch.randn(QUERIES, 1, 5, 6, generator=generator) - 1
    masks = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")[:, 0]
    masks[-1] = -5.0
    return class_logits, masks


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (0.5, 0.5), (0.9, 0.8), (1.0, 0.0)])
def test_panoptic(seed: int, thresholds: tuple[float, float]) -> None:
    class_logits, masks = prediction(seed)
    object_mask_threshold, overlap_threshold = thresholds
    options = {"object_mask_threshold": object_mask_threshold, "overlap_threshold": overlap_threshold}
    wanted, segments = panoptic_inference(class_logits, lambda q: masks[q], things=THINGS, size=SIZE, **options)
    ids, classes, scores = panoptic_map(class_logits, masks, is_thing=IS_THING, **options)
    assert torch.equal(ids, wanted)
    count = len(segments)
    assert classes.tolist() == [s["category_id"] for s in segments] + [-1] * (QUERIES - count)
    assert (scores[:count] > object_mask_threshold).all() and not scores[count:].any()


def test_panoptic_merges_stuff() -> None:
    """Otherwise the test above might never have met two queries of one stuff class."""
    merged = 0
    for seed in range(8):
        class_logits, masks = prediction(seed)
        options = {"is_thing": IS_THING, "object_mask_threshold": 0.0, "overlap_threshold": 0.0}
        ids, classes, _ = panoptic_map(class_logits, masks, **options)
        apart, _, _ = panoptic_map(class_logits, masks, **{**options, "is_thing": torch.ones_like(IS_THING)})
        stuff = [k for k in classes.tolist() if k >= 0 and k not in THINGS]
        assert len(stuff) == len(set(stuff))
        assert torch.equal(ids > 0, apart > 0)
        merged += int(apart.max()) > int(ids.max())
    assert merged > 4


def assert_same(found: tuple[Tensor, Tensor, Tensor], merger: MaskwiseMerger | TwoArgmaxMerger, masks: Tensor) -> int:
    """Compare with what the model's rule makes of the masks; return how many segments there are."""
    chosen = masks[merger.queries]
    merger.add(slice(0, len(chosen)), slice(0, SIZE[0]), chosen, chosen.sigmoid())
    wanted, segments = merger.result()
    ids, classes, scores = found
    assert torch.equal(ids, wanted)
    assert classes.tolist() == [s["category_id"] for s in segments] + [-1] * (QUERIES - len(segments))
    assert (scores[: len(segments)] > 0).all() and not scores[len(segments) :].any()
    return len(segments)


@pytest.mark.parametrize("thing", [0.0, 0.6])
@pytest.mark.parametrize("overlap_threshold", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("exponents", [(1.0, 1.0), (0.5, 2.0)])
def test_maskwise(thing: float, overlap_threshold: float, exponents: tuple[float, float]) -> None:
    seen = set()
    for seed in range(6):
        class_logits, masks = prediction(seed)
        masks = masks.softmax(0).logit()
        thresholds = MaskwiseThresholds(0.3, thing, 0.5, *exponents)
        options = {"thresholds": thresholds, "overlap_threshold": overlap_threshold}
        merger = MaskwiseMerger(class_logits, things=THINGS, size=SIZE, **options)
        seen.add(assert_same(maskwise_map(class_logits, masks, is_thing=IS_THING, **options), merger, masks))
    assert max(seen) > 3


@pytest.mark.parametrize("score", [0.0, 0.7])
@pytest.mark.parametrize("areas", [(0, 0, 0), (10, 60, 0), (10, 60, 40)])  # of things, of stuff, at a side of
def test_two_argmax(score: float, areas: tuple[int, int, int]) -> None:
    seen = set()
    for seed in range(6):
        class_logits, masks = prediction(seed)
        masks = masks.softmax(0).logit()
        thresholds = TwoArgmaxThresholds(score, 0.3, *areas)
        merger = TwoArgmaxMerger(class_logits, things=THINGS, size=SIZE, thresholds=thresholds)
        found = two_argmax_map(class_logits, masks, is_thing=IS_THING, thresholds=thresholds)
        seen.add(assert_same(found, merger, masks))
    assert max(seen) > 3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("things", [None, THINGS])
def test_instances(seed: int, things: set[int] | None) -> None:
    class_logits, masks = prediction(seed)
    wanted = instance_inference(class_logits, lambda q: masks[q], top_k=12, things=things, size=SIZE)
    countable = IS_THING if things else torch.ones(CLASSES, dtype=torch.bool)
    scores, classes, boxes, binary = best_instances(class_logits, masks, top_k=12, countable=countable)
    order = wanted.scores.argsort(descending=True, stable=True)
    order = order[wanted.scores[order] > 0]
    count = len(order)
    assert count > 2 and not scores[count:].any()
    torch.testing.assert_close(scores[:count], wanted.scores[order])
    assert torch.equal(classes[:count], wanted.pred_classes[order])
    assert torch.equal(boxes[:count], wanted.pred_boxes.tensor[order])
    assert torch.equal(binary[:count], wanted.pred_masks[order])


@pytest.mark.parametrize("seed", range(4))
def test_semantic(seed: int) -> None:
    class_logits, masks = prediction(seed)
    wanted = semantic_inference(class_logits, lambda q: masks[q], SIZE)
    assert torch.equal(semantic_map(class_logits, masks), wanted.argmax(0))
