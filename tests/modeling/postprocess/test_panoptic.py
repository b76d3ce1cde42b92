"""Panoptic results against a slow, obvious version of their rule."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mask2former.modeling.postprocess import (
    PANOPTIC_RULE_REGISTRY,
    PanopticMerger,
    PostProcessing,
    ResizedMasks,
    panoptic_inference,
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


def test_no_query_holds_an_object() -> None:
    source = ResizedMasks(FactoredMasks(torch.randn(1, 2, 4), torch.randn(1, 4, 1, 3, 3)), 0, (12, 12), (12, 12), None)
    nothing = torch.tensor([[0.0, 0.0, 9.0]] * 2)
    labels, segments = panoptic_inference(
        nothing, source, things=THINGS, object_mask_threshold=0.5, overlap_threshold=0.5, size=(12, 12)
    )
    assert not segments and not labels.any() and labels.dtype == torch.int32


def test_the_rule_reads_the_settings() -> None:
    """Two queries of one stuff class and one thing, which covers a part of them: thresholds decide what is left."""
    class_logits = torch.tensor([[0.0, 4.0, 0.0], [0.0, 4.0, 0.0], [2.0, 0.0, 0.0]])
    masks = torch.full((3, 1, 4), -9.0)
    masks[0, 0, :2] = masks[1, 0, 1:3] = 9.0
    masks[2, 0, 3] = 9.0
    rule = PANOPTIC_RULE_REGISTRY.get("PanopticMerger")
    found = {}
    for threshold in (0.5, 0.9):
        given = PostProcessing(things=frozenset({0}), object_mask_threshold=threshold, overlap_threshold=0.6)
        merger = rule.from_settings(class_logits, (1, 4), given)
        assert isinstance(merger, PanopticMerger)
        kept = masks[merger.queries]
        merger.add(slice(0, len(kept)), slice(0, 1), kept, kept.sigmoid())
        found[threshold] = merger.result()
    labels, segments = found[0.5]
    # The second stuff query wins one of its two pixels: less than 0.6.
    assert labels.tolist() == [[1, 1, 0, 2]]
    assert segments == [
        {"id": 1, "isthing": False, "category_id": 1},
        {"id": 2, "isthing": True, "category_id": 0},
    ]
    labels, segments = found[0.9]  # the thing's score is 0.79
    assert labels.tolist() == [[1, 1, 0, 0]] and len(segments) == 1
