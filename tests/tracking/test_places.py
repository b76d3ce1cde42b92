"""Overlap of masks as evidence: sets of pixels counted one by one, and films of objects that look alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.modeling.postprocess import ResizedMasks
from mask2former.structures import DenseMasks, FactoredMasks
from mask2former.tracking import Tracker
from mask2former.tracking.places import coarse_masks, mask_iou
from mask2former.tracking.query_linker import QueryLinker

SURE = 5.0


def test_iou_is_that_of_sets_of_pixels():
    rng = np.random.default_rng(0)
    one, other = rng.random((4, 20)) > 0.6, rng.random((3, 20)) > 0.6
    one[0] = other[1] = False
    found = mask_iou(torch.from_numpy(one), torch.from_numpy(other))
    for i, j in itertools.product(range(4), range(3)):
        a, b = set(np.flatnonzero(one[i])), set(np.flatnonzero(other[j]))
        assert found[i, j].item() == pytest.approx(len(a & b) / len(a | b) if a | b else 0)


def test_coarse_masks_leave_padding_out():
    logits = torch.randn(1, 3, 2, 8, 10)
    masks = ResizedMasks(DenseMasks(logits), 0, (32, 40), (21, 40), None, frame=1)
    assert torch.equal(coarse_masks(masks), logits[0, :, 1, :6] > 0)  # 21 pixels are 5.25 cells
    assert torch.equal(coarse_masks(masks, torch.tensor([2])), logits[0, 2:, 1, :6] > 0)


def test_coarse_masks_of_a_softmax_are_the_likelier_half():
    logits = 3 * torch.randn(1, 3, 1, 4, 4)
    masks = ResizedMasks(DenseMasks(logits, "softmax"), 0, (16, 16), (16, 16), None)
    exponent = logits[0, :, 0].exp()
    expected = exponent / exponent.sum(0) > 0.5
    assert expected.any() and torch.equal(coarse_masks(masks, torch.tensor([1, 0])), expected[[1, 0]])


def square(left: int, top: int, side: int = 6) -> torch.Tensor:
    mask = torch.zeros(24, 60, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


@settings(max_examples=40, deadline=None)
@given(st.lists(st.permutations(range(4)), min_size=2, max_size=10), st.integers(0, 999))
def test_objects_that_look_alike_are_told_apart_by_their_places(orders, seed):
    """Embeddings are all the same but for noise, so that they would tell nothing; squares move by a pixel a frame."""
    torch.manual_seed(seed)
    tracker, linker = Tracker(overlap=0.5), QueryLinker(overlap=0.5)
    number_of: dict[int, int] = {}
    for number, order in enumerate(orders):
        seen = torch.stack([square(12 * name + number, 4 + name) for name in order])
        alike = torch.ones(4, 8) + 0.05 * torch.rand(4, 8)
        found = tracker.step(alike, torch.tensor([[SURE, 0.0]] * 4), lambda queries, m=seen: m[queries])
        for query, track in zip(found.queries.tolist(), found.tracks, strict=True):
            assert number_of.setdefault(order[query], track) == track
        assert [order[query] for query in linker.step(alike, seen)] == list(orders[0])
    assert sorted(number_of.values()) == [1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(10))
def test_evidence_is_the_weighted_sum(seed):
    """Of every assignment of 3 queries to 3 tracks, the one found has the greatest sum of the formula."""
    torch.manual_seed(seed)
    before, after = torch.randn(2, 3, 4, dtype=torch.float64)
    places = torch.rand(2, 3, 5, 5) > 0.5
    tracker, linker, sure = Tracker(similarity=-1, overlap=0.4), QueryLinker(0.4), torch.tensor([[SURE, 0.0]] * 3)
    tracker.step(before, sure, lambda queries: places[0, queries])
    found = tracker.step(after, sure, lambda queries: places[1, queries]).tracks
    linker.step(before, places[0])
    linked = linker.step(after, places[1]).tolist()

    def evidence(query, track):
        a, b = after[query], before[track]
        common, union = (places[1, query] & places[0, track]).sum(), (places[1, query] | places[0, track]).sum()
        return 0.6 * float(a @ b / a.norm() / b.norm()) + 0.4 * float(common / union)

    every = itertools.permutations(range(3))
    best = max(sum(evidence(query, track) for query, track in enumerate(order)) for order in every)
    assert sum(evidence(query, track - 1) for query, track in enumerate(found)) == pytest.approx(best, abs=1e-4)
    assert sum(evidence(query, track) for track, query in enumerate(linked)) == pytest.approx(best, abs=1e-4)


def test_a_cell_that_divides_ends_its_track():
    """Its two halves overlap it by less than half, so both are new."""
    tracker = Tracker(similarity=0.6, overlap=0.8)
    whole = torch.zeros(1, 10, 20, dtype=torch.bool)
    whole[0, :, 2:18] = True
    halves = torch.zeros(2, 10, 20, dtype=torch.bool)
    halves[0, :, 2:9], halves[1, :, 11:18] = True, True
    alike, sure = torch.ones(2, 4), torch.tensor([[SURE, 0.0]] * 2)
    assert tracker.step(alike[:1], sure[:1], lambda queries: whole[queries]).tracks == [1]
    assert tracker.step(alike, sure, lambda queries: halves[queries]).tracks == [2, 3]


def test_a_film_that_changes_its_size_goes_on_by_looks():
    tracker = Tracker(similarity=0.4, overlap=0.5)
    embedding, sure = torch.ones(1, 4), torch.tensor([[SURE, 0.0]])
    for size in ((5, 6), (5, 6), (7, 8)):
        mask = torch.ones(1, *size, dtype=torch.bool)
        assert tracker.step(embedding, sure, lambda queries, m=mask: m[queries]).tracks == [1]


@pytest.mark.parametrize("what", ["overlap", "duplicates"])
def test_masks_are_needed_and_ranges_checked(what):
    with pytest.raises(ValueError, match="needs the masks"):
        Tracker(**{what: 0.5}).step(torch.ones(1, 4), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="overlap is"):
        Tracker(**{what: 1.5})


def test_of_two_queries_for_one_object_the_likelier_goes_on():
    """Greedily, likeliest first: the third overlaps only what is left out, so it stays."""
    masks = torch.zeros(4, 1, 10, dtype=torch.bool)
    for row, (first, last) in enumerate([(0, 8), (2, 10), (4, 10), (0, 1)]):
        masks[row, 0, first:last] = True  # IoU 0.6 of the first two, 0.75 of the next, 0.4 of the first and third
    logits = torch.tensor([[5.0, 0.0], [4.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    found = {
        most: Tracker(duplicates=most).step(torch.eye(4), logits, lambda queries: masks[queries]).queries.tolist()
        for most in (0.2, 0.5, 0.7, 1.0)
    }
    assert found == {0.2: [0, 3], 0.5: [0, 2, 3], 0.7: [0, 1, 3], 1.0: [0, 1, 2, 3]}


def test_factored_masks_are_multiplied_for_the_wanted_queries_alone():
    embed, features = torch.randn(1, 4, 3), torch.randn(1, 3, 1, 5, 5)
    masks = ResizedMasks(FactoredMasks(embed, features), 0, (20, 20), (20, 20), None)
    expected = torch.einsum("c,chw->hw", embed[0, 2], features[0, :, 0]) > 0
    assert torch.equal(coarse_masks(masks, torch.tensor([2]))[0], expected)
