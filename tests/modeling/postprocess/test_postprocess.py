"""Post-processing against slow, obvious versions of its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.postprocess import (
    InstanceAccumulator,
    PanopticMerger,
    ResizedMasks,
    SemanticLabels,
    SemanticScores,
    instance_inference,
    panoptic_inference,
    semantic_inference,
    stream_masks,
    streaming,
)
from mask2former.structures import FactoredMasks

THINGS = {0, 2}


def slow_panoptic(
    class_logits: Tensor, masks: Tensor, score_threshold: float, overlap_threshold: float
) -> tuple[Tensor, list[dict]]:
    """Pixel by pixel and query by query."""
    classes = class_logits.shape[-1] - 1
    kept = []
    for q, logits in enumerate(class_logits):
        probability = logits.softmax(0)
        if probability.argmax() != classes and probability.max() > score_threshold:
            kept.append((q, probability.max(), int(probability.argmax())))
    height, width = masks.shape[1:]
    winner = torch.full((height, width), -1)
    for y in range(height):
        for x in range(width):
            best = -1.0
            for index, (q, score, _) in enumerate(kept):
                value = (score * masks[q, y, x].sigmoid()).item()
                if value > best:
                    best, winner[y, x] = value, index
    result, segments, stuff = torch.zeros(height, width, dtype=torch.int32), [], {}
    for index, (q, _, category) in enumerate(kept):
        own = masks[q].sigmoid() >= 0.5
        segment = (winner == index) & own
        if not segment.any() or (winner == index).sum().item() / own.sum().item() < overlap_threshold:
            continue
        if category not in THINGS and category in stuff:
            result[segment] = stuff[category]
            continue
        segments.append({"id": len(segments) + 1, "isthing": category in THINGS, "category_id": category})
        result[segment] = len(segments)
        if category not in THINGS:
            stuff[category] = len(segments)
    return result, segments


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(0, 40),
    scale=st.sampled_from([0.0, 0.1, 3.0, 50.0]),
    class_scale=st.sampled_from([0.5, 4.0]),
    thresholds=st.tuples(st.sampled_from([0.0, 0.4, 0.8]), st.sampled_from([0.0, 0.5, 0.8])),
)
def test_panoptic_equals_slow_version(
    seed: int, queries: int, scale: float, class_scale: float, thresholds: tuple[float, float]
) -> None:
    """Also with ties everywhere (scale 0), saturated masks (50) and no queries."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(queries, 5, generator=generator) * class_scale
    masks = torch.randn(queries, 4, 5, generator=generator) * scale
    panoptic, segments = panoptic_inference(
        class_logits,
        lambda q: masks[q],
        things=THINGS,
        object_mask_threshold=thresholds[0],
        overlap_threshold=thresholds[1],
        size=(4, 5),
    )
    expected, expected_segments = slow_panoptic(class_logits, masks, *thresholds)
    assert segments == expected_segments
    assert panoptic.dtype == torch.int32
    assert torch.equal(panoptic, expected)


def test_semantic_equals_its_sum() -> None:
    class_logits, masks = torch.randn(37, 6), torch.randn(37, 8, 9)
    expected = torch.einsum("qk,qhw->khw", class_logits.softmax(-1)[:, :5], masks.sigmoid())
    torch.testing.assert_close(semantic_inference(class_logits, lambda q: masks[q], (8, 9)), expected)


@pytest.mark.parametrize("things", [None, THINGS])
@pytest.mark.parametrize(("queries", "top_k"), [(30, 25), (3, 100), (1, 1)])
def test_instances_equal_slow_version(things: set[int] | None, queries: int, top_k: int) -> None:
    """Also with more results wanted than there are (query, class) pairs."""
    class_logits, masks = torch.randn(queries, 5) * 3, torch.randn(queries, 8, 9)
    masks[0] = -5.0  # an empty mask
    found = instance_inference(class_logits, lambda q: masks[q], top_k=top_k, things=things, size=(8, 9))
    probability = class_logits.softmax(-1)
    pairs = [(probability[q, k].item(), q, k) for q in range(queries) for k in range(4)]
    expected = []
    for score, q, k in sorted(pairs, reverse=True)[:top_k]:
        if things is not None and k not in things:
            continue
        mask = masks[q] > 0
        quality = (masks[q].sigmoid() * mask).sum() / (mask.sum() + 1e-6)
        expected.append((score * quality.item(), k, mask))
    order = found.scores.argsort(descending=True, stable=True)
    assert len(found) == len(expected)
    assert found.scores[order].tolist() == pytest.approx(sorted((e[0] for e in expected), reverse=True), abs=1e-6)
    by_score = {round(score, 5): (k, mask) for score, k, mask in expected}
    for score, k, mask, box in zip(
        found.scores, found.pred_classes, found.pred_masks, found.pred_boxes.tensor, strict=True
    ):
        if score > 0:
            assert int(k) == by_score[round(score.item(), 5)][0]
            assert torch.equal(mask, by_score[round(score.item(), 5)][1])
            rows, columns = mask.nonzero(as_tuple=True)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        else:
            assert not mask.any() and box.tolist() == [0, 0, 0, 0]


def test_masks_are_resized_as_published() -> None:
    """To the padded input, cropped to the image, then to the wanted size."""
    masks = FactoredMasks(torch.randn(2, 5, 6), torch.randn(2, 6, 1, 8, 16))
    source = ResizedMasks(masks, 1, padded_size=(32, 64), image_size=(30, 50), output_size=(61, 99))
    dense = F.interpolate(masks.logits()[1].transpose(0, 1), (32, 64), mode="bilinear", align_corners=False)
    expected = F.interpolate(dense[..., :30, :50], (61, 99), mode="bilinear", align_corners=False)[0]
    queries = torch.tensor([4, 0, 4])
    torch.testing.assert_close(source(queries), expected[queries])
    torch.testing.assert_close(ResizedMasks(masks, 1, (32, 64), (30, 50), None)(queries), dense[0, queries, :30, :50])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    features=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    output=st.none() | st.tuples(st.integers(1, 70), st.integers(1, 70)),
    part=st.tuples(st.floats(0, 0.99), st.floats(0, 1)),
)
def test_some_rows_are_those_of_the_whole(
    seed: int,
    features: tuple[int, int],
    padding: tuple[int, int],
    output: tuple[int, int] | None,
    part: tuple[float, float],
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = FactoredMasks(
        torch.randn(1, 3, 4, generator=generator), torch.randn(1, 4, 1, *features, generator=generator)
    )
    padded = (features[0] * 4, features[1] * 4)
    image = (max(1, padded[0] - padding[0]), max(1, padded[1] - padding[1]))
    source = ResizedMasks(masks, 0, padded, image, output)
    whole = F.interpolate(masks.logits()[0].transpose(0, 1), padded, mode="bilinear")[..., : image[0], : image[1]]
    whole = F.interpolate(whole, source.size, mode="bilinear")[0]
    height = source.size[0]
    first = int(part[0] * height)
    last = first + 1 + int(part[1] * (height - first - 1))
    torch.testing.assert_close(source.rows(torch.arange(3), first, last), whole[:, first:last], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pixels", [1, 900, 10**6])
def test_results_together_are_those_of_each(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows are made at a time."""
    monkeypatch.setitem(streaming._PIXELS, "cpu", pixels)
    class_logits = torch.randn(20, 5) * 3
    source = ResizedMasks(
        FactoredMasks(torch.randn(1, 20, 6), torch.randn(1, 6, 1, 9, 7)), 0, (36, 28), (33, 28), (50, 41)
    )
    whole = source(torch.arange(20))
    options = {"things": THINGS, "object_mask_threshold": 0.6, "overlap_threshold": 0.3, "size": (50, 41)}
    semantic, panoptic = SemanticScores(class_logits, (50, 41)), PanopticMerger(class_logits, **options)
    instances = InstanceAccumulator(class_logits, top_k=12, things=THINGS, size=(50, 41))
    stream_masks(source, [semantic, panoptic, instances], (50, 41))
    torch.testing.assert_close(semantic.result(), semantic_inference(class_logits, lambda q: whole[q], (50, 41)))
    labels, segments = panoptic.result()
    expected, expected_segments = panoptic_inference(class_logits, lambda q: whole[q], **options)
    assert segments == expected_segments and len(segments) > 1
    assert (labels != expected).float().mean() < 0.002
    found = instances.result()
    expected = instance_inference(class_logits, lambda q: whole[q], top_k=12, things=THINGS, size=(50, 41))
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    assert (found.pred_masks != expected.pred_masks).float().mean() < 0.002


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([1, 5, 40]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    rows=st.sampled_from([1, 7, 32]),
)
@settings(max_examples=30, deadline=None)
def test_labels_are_those_of_the_scores(seed: int, classes: int, size: tuple[int, int], rows: int) -> None:
    torch.manual_seed(seed)
    class_logits = torch.randn(20, classes + 1) * 3
    factors = FactoredMasks(torch.randn(1, 20, 6), torch.randn(1, 6, 1, 9, 7))
    source = ResizedMasks(factors, 0, (36, 28), (33, 28), size)
    scores, labels = SemanticScores(class_logits, size), SemanticLabels(class_logits, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(streaming._ROWS, "cpu", rows)
        stream_masks(source, [scores, labels], size)
    assert labels.result().dtype == torch.int16
    assert torch.equal(labels.result().long(), scores.result().argmax(dim=0))


def test_labels_want_all_queries_at_once() -> None:
    masks = torch.randn(40, 8, 9)
    with pytest.raises(ValueError, match="16 of 40 queries"):
        stream_masks(lambda queries: masks[queries], [SemanticLabels(torch.randn(40, 6), (8, 9))], (8, 9))


def test_no_query_holds_an_object() -> None:
    source = ResizedMasks(FactoredMasks(torch.randn(1, 2, 4), torch.randn(1, 4, 1, 3, 3)), 0, (12, 12), (12, 12), None)
    nothing = torch.tensor([[0.0, 0.0, 9.0]] * 2)
    labels, segments = panoptic_inference(
        nothing, source, things=THINGS, object_mask_threshold=0.5, overlap_threshold=0.5, size=(12, 12)
    )
    assert not segments and not labels.any() and labels.dtype == torch.int32
