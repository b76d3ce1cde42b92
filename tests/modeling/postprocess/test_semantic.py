"""Semantic results against the sum that defines them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.modeling.postprocess import (
    ResizedMasks,
    SemanticLabels,
    SemanticScores,
    semantic_inference,
    stream_masks,
)
from mask2former.structures import FactoredMasks


def test_semantic_equals_its_sum() -> None:
    class_logits, masks = torch.randn(37, 6), torch.randn(37, 8, 9)
    expected = torch.einsum("qk,qhw->khw", class_logits.softmax(-1)[:, :5], masks.sigmoid())
    torch.testing.assert_close(semantic_inference(class_logits, lambda q: masks[q], (8, 9)), expected)


def test_no_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no queries"):
        SemanticScores(torch.zeros(0, 6), (8, 9))


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([1, 5, 40]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
@settings(max_examples=30, deadline=None)
def test_labels_are_those_of_the_scores(seed: int, classes: int, size: tuple[int, int]) -> None:
    torch.manual_seed(seed)
    class_logits = torch.randn(20, classes + 1) * 3
    factors = FactoredMasks(torch.randn(1, 20, 6), torch.randn(1, 6, 1, 9, 7))
    source = ResizedMasks(factors, 0, (36, 28), (33, 28), size)
    scores, labels = SemanticScores(class_logits, size), SemanticLabels(class_logits, size)
    stream_masks(source, [scores, labels], size)
    assert labels.result().dtype == torch.int16
    assert torch.equal(labels.result().long(), scores.result().argmax(dim=0))


def test_labels_want_all_queries_at_once() -> None:
    masks = torch.randn(40, 8, 9)
    with pytest.raises(ValueError, match="16 of 40 queries"):
        stream_masks(lambda queries: masks[queries], [SemanticLabels(torch.randn(40, 6), (8, 9))], (8, 9))
