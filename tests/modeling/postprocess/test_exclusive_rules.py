"""Panoptic rules for masks that exclude each other against slow versions, written from their formulas."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mask2former.modeling.postprocess import (
    PANOPTIC_RULE_REGISTRY,
    InstanceAccumulator,
    MaskwiseThresholds,
    PostProcessing,
    ResizedMasks,
    TwoArgmaxThresholds,
    post_process,
)
from mask2former.structures import DenseMasks

THINGS = frozenset({0, 2})
Result = tuple[list[list[int]], list[dict[str, Any]]]


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def numbered(owner: dict[tuple[int, int], int], taken: list[int], classes: list[int], size: tuple[int, int]) -> Result:
    """Number segments in the order of ``taken``, a stuff class once."""
    of_query: dict[int, int] = {}
    segments: list[dict[str, Any]] = []
    for query in taken:
        same = [q for q in of_query if classes[q] == classes[query]]
        if classes[query] not in THINGS and same:
            of_query[query] = of_query[same[0]]
            continue
        segments.append({"id": len(segments) + 1, "isthing": classes[query] in THINGS, "category_id": classes[query]})
        of_query[query] = len(segments)
    labels = [[of_query.get(owner.get((y, x), -1), 0) for x in range(size[1])] for y in range(size[0])]
    return labels, segments


def slow_maskwise(class_logits: Tensor, z: Tensor, given: PostProcessing) -> Result:
    """Paste mask after mask, on sets of pixels."""
    t = given.maskwise
    slots = []
    at = {
        (y, x): softmax(z[:, y, x].double().tolist()) for y in range(z.shape[1]) for x in range(z.shape[2])
    }  # of each pixel, over slots
    for n, logits in enumerate(class_logits.double().tolist()):
        probability = softmax(logits)[:-1]
        category = probability.index(max(probability))
        b = {pixel for pixel, m in at.items() if m[n] > t.pixel}
        mean = sum(at[pixel][n] for pixel in b) / len(b) if b else 0.0
        order = max(probability) ** t.class_exponent * mean**t.mask_exponent
        slots.append((order, n, max(probability), category, b))
    # Equal ones go by number; of nearly equal ones float32, in which the rule gets its probabilities, decides.
    assume(all(a == b or abs(a - b) > 1e-5 for (a, *_), (b, *_) in pairwise(sorted(slots, key=lambda slot: slot[0]))))
    owner: dict[tuple[int, int], int] = {}
    taken = []
    for _, n, score, category, b in sorted(slots, key=lambda slot: (-slot[0], slot[1])):
        free = b - owner.keys()
        if score > (t.thing if category in THINGS else t.stuff) and len(free) > given.overlap_threshold * len(b):
            owner |= dict.fromkeys(free, n)
            taken.append(n)
    classes = [slot[3] for slot in slots]
    return numbered(owner, taken, classes, tuple(z.shape[1:]))


def slow_two_argmax(class_logits: Tensor, z: Tensor, given: PostProcessing) -> Result:
    """Judge pixel after pixel by the logits themselves."""
    t = given.two_argmax
    probabilities = [softmax(logits)[:-1] for logits in class_logits.double().tolist()]
    classes = [p.index(max(p)) for p in probabilities]
    kept = [n for n, p in enumerate(probabilities) if max(p) >= t.score]
    owner: dict[tuple[int, int], int] = {}
    height, width = z.shape[1:]
    for y in range(height):
        for x in range(width):
            column = z[:, y, x].double().tolist()
            if not kept:
                continue
            best = max(kept, key=lambda n: column[n])
            share = softmax([column[n] for n in kept])[kept.index(best)]
            if share > t.pixel and all(column[n] <= column[best] for n in range(len(column)) if n not in kept):
                owner[y, x] = best
    areas: dict[Any, int] = {}
    for n in owner.values():
        key = ("thing", n) if classes[n] in THINGS else ("stuff", classes[n])
        areas[key] = areas.get(key, 0) + 1
    scale = (max(height, width) / t.area_side) ** 2 if t.area_side else 1.0
    taken = []
    for n in kept:
        is_thing = classes[n] in THINGS
        area = areas.get(("thing", n) if is_thing else ("stuff", classes[n]), 0)
        if n in owner.values() and area >= scale * (t.thing_area if is_thing else t.stuff_area):
            taken.append(n)
    return numbered(owner, taken, classes, (height, width))


def log_odds(z: Tensor) -> Tensor:
    return z.softmax(0).logit()


def run(name: str, class_logits: Tensor, z: Tensor, given: PostProcessing, cuts: list[int]) -> Result:
    """Give a rule the masks in bands of rows, last band first."""
    rule = PANOPTIC_RULE_REGISTRY.get(name).from_settings(class_logits, tuple(z.shape[1:]), given)
    logits = log_odds(z)[rule.queries]
    edges = [0, *sorted(set(cuts)), z.shape[1]]
    for first, last in reversed(list(pairwise(edges))):
        part = logits[:, first:last]
        rule.add(slice(0, len(part)), slice(first, last), part, part.sigmoid())
    labels, segments = rule.result()
    assert labels.dtype == torch.int32
    return labels.tolist(), segments


SCENE = {
    "seed": st.integers(0, 10**6),
    "slots": st.integers(1, 20),
    "scale": st.sampled_from([0.3, 2.0, 20.0]),
    "cuts": st.lists(st.integers(1, 4), max_size=3),
}


def scene(seed: int, slots: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return class logits [N, 5] and mask logits [N, 5, 6]."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(slots, 5, generator=generator) * 3
    return class_logits, torch.randn(slots, 5, 6, generator=generator) * scale


@settings(deadline=None, max_examples=120)
@given(
    **SCENE,
    thresholds=st.builds(
        MaskwiseThresholds,
        pixel=st.sampled_from([0.05, 0.4]),
        thing=st.sampled_from([0.3, 0.7]),
        stuff=st.sampled_from([0.2, 0.5]),
        class_exponent=st.sampled_from([0.0, 1.0]),
        mask_exponent=st.sampled_from([0.0, 1.0, 2.0]),
    ),
    overlap=st.sampled_from([0.0, 0.5, 0.8]),
)
@example(  # once found: means of 1 - 1e-9 or so, whose order float32 does not know
    seed=321,
    slots=14,
    scale=20.0,
    cuts=[],
    thresholds=MaskwiseThresholds(0.05, 0.3, 0.2, 0.0, 1.0),
    overlap=0.0,
)
def test_pasting_equals_slow_version_however_rows_come(
    seed: int, slots: int, scale: float, cuts: list[int], thresholds: MaskwiseThresholds, overlap: float
) -> None:
    class_logits, z = scene(seed, slots, scale)
    given = PostProcessing(things=THINGS, overlap_threshold=overlap, maskwise=thresholds)
    assert run("MaskwiseMerger", class_logits, z, given, cuts) == slow_maskwise(class_logits, z, given)


@settings(deadline=None, max_examples=120)
@given(
    **SCENE,
    thresholds=st.builds(
        TwoArgmaxThresholds,
        score=st.sampled_from([0.3, 0.7]),
        pixel=st.sampled_from([0.0, 0.4, 0.8]),
        thing_area=st.sampled_from([0, 3]),
        stuff_area=st.sampled_from([0, 8]),
        area_side=st.sampled_from([0, 3, 6, 9]),
    ),
)
def test_two_argmaxes_equal_slow_version_however_rows_come(
    seed: int, slots: int, scale: float, cuts: list[int], thresholds: TwoArgmaxThresholds
) -> None:
    class_logits, z = scene(seed, slots, scale)
    given = PostProcessing(things=THINGS, two_argmax=thresholds)
    assert run("TwoArgmaxMerger", class_logits, z, given, cuts) == slow_two_argmax(class_logits, z, given)


@pytest.mark.parametrize("name", ["MaskwiseMerger", "TwoArgmaxMerger"])
@settings(deadline=None, max_examples=40)
@given(**SCENE, groups=st.integers(1, 6))
def test_queries_may_come_in_groups(
    name: str, seed: int, slots: int, scale: float, cuts: list[int], groups: int
) -> None:
    """Give some whole masks at a time, as test-time augmentation does."""
    class_logits, z = scene(seed, slots, scale)
    given = PostProcessing(things=THINGS, two_argmax=TwoArgmaxThresholds(score=0.4, thing_area=0, stuff_area=0))
    rule = PANOPTIC_RULE_REGISTRY.get(name).from_settings(class_logits, (5, 6), given)
    logits = log_odds(z)[rule.queries]
    for first in range(0, len(logits), groups):
        part = logits[first : first + groups]
        rule.add(slice(first, first + len(part)), slice(0, 5), part, part.sigmoid())
    labels, segments = rule.result()
    assert (labels.tolist(), segments) == run(name, class_logits, z, given, cuts)


@pytest.mark.parametrize("name", ["MaskwiseMerger", "TwoArgmaxMerger"])
def test_nothing_is_sure(name: str) -> None:
    doubtful = torch.zeros(3, 5)
    labels, segments = run(name, doubtful, torch.randn(3, 4, 4), PostProcessing(things=THINGS), [])
    assert not segments and not torch.tensor(labels).any()


def test_a_slot_that_is_left_out_blocks_a_pixel_in_one_rule_alone() -> None:
    """Slot 0 says little about its class and has the left half; slot 1, a thing, comes second there."""
    class_logits = torch.tensor([[0.0, 0.0, 0.0, 0.1], [9.0, 0.0, 0.0, 0.0]])
    z = torch.zeros(2, 1, 4)
    z[0, 0, :2], z[1, 0, 2:] = 0.2, 5.0
    given = PostProcessing(
        things=THINGS, overlap_threshold=0.0, two_argmax=TwoArgmaxThresholds(thing_area=0, stuff_area=0)
    )
    pasted, _ = run("MaskwiseMerger", class_logits, z, given, [])
    argmax, _ = run("TwoArgmaxMerger", class_logits, z, given, [])
    assert pasted == [[1, 1, 1, 1]]  # softmax(0, 0.2) is 0.45, above 0.4
    assert argmax == [[0, 0, 1, 1]]


def test_another_least_score_is_every_rule_s() -> None:
    """The predictor's threshold takes the place of the configuration's."""
    class_logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # scores 0.58, a thing and stuff
    z = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
    areas = TwoArgmaxThresholds(thing_area=0, stuff_area=0)
    given = PostProcessing(things=frozenset({0}), two_argmax=areas, object_mask_threshold=0.6)
    for name in ("PanopticMerger", "MaskwiseMerger", "TwoArgmaxMerger"):
        found = [run(name, class_logits, z, given.with_least_score(score), [])[1] for score in (0.5, 0.6)]
        assert [len(segments) for segments in found] == [2, 0], name


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.3, 0.5, 0.7]))
def test_instances_of_exclusive_masks(seed: int, threshold: float) -> None:
    """Masks above the threshold; score = class probability times the mean inside; above 1/2 no pixel has two owners."""
    generator = torch.Generator().manual_seed(seed)
    class_logits, z = torch.randn(6, 4, generator=generator), torch.randn(6, 5, 7, generator=generator) * 3
    accumulator = InstanceAccumulator(class_logits, top_k=100, things=None, size=(5, 7), mask_threshold=threshold)
    logits = log_odds(z)
    for rows in (slice(0, 2), slice(2, 5)):
        accumulator.add(slice(0, 6), rows, logits[:, rows], logits[:, rows].sigmoid())
    found = accumulator.result()
    probability, inside = z.double().softmax(0), z.double().softmax(0) > threshold
    mean = [(probability[n][inside[n]].mean().item() if inside[n].any() else 0.0) for n in range(6)]
    expected = sorted(
        (class_logits[n].double().softmax(0)[k].item() * mean[n], k, inside[n].tolist())
        for n in range(6)
        for k in range(3)
        if inside[n].any()
    )
    got = sorted(
        (score, k, mask.tolist())
        for score, k, mask in zip(found.scores.tolist(), found.pred_classes.tolist(), found.pred_masks, strict=True)
        if mask.any()
    )
    assert [one[0] for one in got] == pytest.approx([one[0] for one in expected], abs=1e-5)
    assert [one[1:] for one in got] == [one[1:] for one in expected]
    if threshold >= 0.5:
        owners = {tuple(map(tuple, mask.tolist())) for mask in found.pred_masks if mask.any()}
        assert sum(torch.tensor(mask).int() for mask in owners).max() <= 1 if owners else True


def test_all_results_of_an_image() -> None:
    """Semantic scores are sums of products of two softmaxes; the panoptic map has pixels of one owner."""
    class_logits, z = torch.randn(7, 5) * 4, torch.randn(1, 7, 1, 9, 9) * 4
    source = ResizedMasks(DenseMasks(z, "softmax", align_corners=True), 0, (33, 33), (30, 33), (60, 66))
    given = PostProcessing(
        panoptic_on=True, instance_on=True, things=THINGS, panoptic_rule="MaskwiseMerger", instance_mask_threshold=0.4
    )
    result = post_process(class_logits, source, given)
    resize = torch.nn.functional.interpolate
    whole = resize(z[:, :, 0], (33, 33), mode="bilinear", align_corners=True)[..., :30, :]
    whole = resize(whole, (60, 66), mode="bilinear", align_corners=True)[0].softmax(0)
    semantic = torch.einsum("nk,nyx->kyx", class_logits.softmax(-1)[:, :-1], whole)
    torch.testing.assert_close(result["sem_seg"], semantic, atol=1e-5, rtol=1e-4)
    labels, segments = result["panoptic_seg"]
    assert len(segments) > 1 and {one["id"] for one in segments} >= set(labels.unique().tolist()) - {0}
    for one in segments:  # each is of slots that have its class
        slots = (class_logits[:, :-1].argmax(1) == one["category_id"]).nonzero().flatten()
        assert (whole[slots].amax(0)[labels == one["id"]] > 0.4 - 1e-5).all()
    assert set(result["instances"].pred_classes.tolist()) <= THINGS
