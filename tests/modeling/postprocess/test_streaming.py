"""One pass over the masks gives every result what it would get alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mask2former.modeling.postprocess import (
    InstanceAccumulator,
    PanopticMerger,
    ResizedMasks,
    SemanticScores,
    instance_inference,
    panoptic_inference,
    semantic_inference,
    stream_masks,
)
from mask2former.structures import DenseMasks, FactoredMasks

THINGS = {0, 2}


class Keep:
    """Put the pieces together again; count how often each pixel came."""

    def __init__(self, queries: list[int], size: tuple[int, int]) -> None:
        self.queries = torch.tensor(queries, dtype=torch.int64)
        self.logits, self.probability = torch.zeros(2, len(queries), *size)
        self.times = torch.zeros(len(queries), *size)

    def add(self, own: slice, rows: slice, logits: Tensor, probability: Tensor) -> None:
        self.logits[own, rows], self.probability[own, rows] = logits, probability
        self.times[own, rows] += 1

    def result(self) -> None: ...


@pytest.mark.parametrize("whole_masks", [False, True])
@pytest.mark.parametrize("wanted", [[[0, 3, 39], [3, 17, 18]], [[], [5]], [list(range(40)), [1, 20]], [[7]]], ids=str)
def test_each_gets_its_own_masks_once(wanted: list[list[int]], whole_masks: bool) -> None:
    size = (70, 9)
    masks = DenseMasks(torch.randn(1, 40, 1, *size))
    source = ResizedMasks(masks, 0, size, size, None)
    accumulators = [Keep(queries, size) for queries in wanted]
    stream_masks((lambda queries: source(queries)) if whole_masks else source, accumulators, size)
    for one in accumulators:
        expected = masks.mask_logits[0, one.queries, 0]
        torch.testing.assert_close(one.logits, expected)
        torch.testing.assert_close(one.probability, expected.sigmoid())
        assert (one.times == 1).all()


@pytest.mark.parametrize("size", [(20, 41), (70, 41), (33, 57)], ids=str)
def test_results_together_are_those_of_each(size: tuple[int, int]) -> None:
    """Take all rows at a time, or some."""
    class_logits = torch.randn(20, 5) * 3
    source = ResizedMasks(FactoredMasks(torch.randn(1, 20, 6), torch.randn(1, 6, 1, 9, 7)), 0, (36, 28), (33, 28), size)
    whole = source(torch.arange(20))
    options = {"things": THINGS, "object_mask_threshold": 0.6, "overlap_threshold": 0.3, "size": size}
    semantic, panoptic = SemanticScores(class_logits, size), PanopticMerger(class_logits, **options)
    instances = InstanceAccumulator(class_logits, top_k=12, things=THINGS, size=size)
    stream_masks(source, [semantic, panoptic, instances], size)
    torch.testing.assert_close(semantic.result(), semantic_inference(class_logits, lambda q: whole[q], size))
    labels, segments = panoptic.result()
    expected, expected_segments = panoptic_inference(class_logits, lambda q: whole[q], **options)
    assert segments == expected_segments and len(segments) > 1
    assert (labels != expected).float().mean() < 0.002
    found = instances.result()
    expected = instance_inference(class_logits, lambda q: whole[q], top_k=12, things=THINGS, size=size)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    assert (found.pred_masks != expected.pred_masks).float().mean() < 0.002
