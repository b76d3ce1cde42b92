"""Linking queries from frame to frame, against films whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.tracking import Tracker

SURE, EMPTY = 5.0, -5.0  # logit of an object's class where there is one, and where there is none


def frame(objects: dict[int, torch.Tensor], order: list[int], classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings and class logits of a frame, in which query i shows the object ``order[i]``, -1 for none."""
    channels = len(next(iter(objects.values())))
    embeddings = torch.stack([objects[name] if name >= 0 else torch.randn(channels) for name in order])
    logits = torch.zeros(len(order), classes + 1)
    for query, name in enumerate(order):
        logits[query, name % classes if name >= 0 else classes] = SURE
    return embeddings, logits


def objects(count: int, channels: int = 8) -> dict[int, torch.Tensor]:
    return dict(enumerate(torch.eye(channels)[:count]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.permutations(range(5)), min_size=2, max_size=12), st.floats(0, 0.3), st.integers(0, 999))
def test_objects_keep_their_numbers_whatever_query_shows_them(orders, noise, seed):
    torch.manual_seed(seed)
    known = objects(5)
    tracker = Tracker()
    number_of: dict[int, int] = {}
    for order in orders:
        seen = {name: vector + noise * torch.rand(8) for name, vector in known.items()}
        found = tracker.step(*frame(seen, list(order)))
        for query, track in zip(found.queries.tolist(), found.tracks, strict=True):
            assert number_of.setdefault(order[query], track) == track
    assert sorted(number_of.values()) == [1, 2, 3, 4, 5]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_assignment_is_the_best_of_all(seed):
    """The sum of similarities, of pairs that are like enough, is the greatest: every assignment is tried."""
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=(2, 4, 3))
    tracker = Tracker(similarity=0.2)
    logits = torch.tensor([[SURE, EMPTY]] * 4)
    first = tracker.step(torch.tensor(before), logits).tracks
    second = tracker.step(torch.tensor(after), logits).tracks
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (after, before)]
    similar = unit[0] @ unit[1].T

    def worth(pairs):
        return sum(similar[i, j] - 0.2 + 0.1 for i, j in pairs if similar[i, j] >= 0.2)

    found = [(i, first.index(track)) for i, track in enumerate(second) if track in first]
    best = max(worth(enumerate(order)) for order in itertools.permutations(range(4)))
    assert worth(found) == pytest.approx(best, abs=1e-4)
    assert all(similar[i, j] >= 0.2 - 1e-6 for i, j in found)


@pytest.mark.parametrize(("absent", "memory", "same"), [(0, 0, True), (1, 0, False), (10, 10, True), (11, 10, False)])
def test_an_object_that_comes_back_in_time_keeps_its_number(absent, memory, same):
    tracker, known = Tracker(memory=memory), objects(2)
    assert tracker.step(*frame(known, [0, 1])).tracks == [1, 2]
    for _ in range(absent):
        assert tracker.step(*frame(known, [0, -1])).tracks == [1]
    assert tracker.step(*frame(known, [1, 0])).tracks == ([2, 1] if same else [3, 1])


def test_classes_are_averaged_along_a_track():
    tracker = Tracker()
    embedding = torch.ones(1, 4)
    logits = [torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([[1.0, 4.0, 0.0]]), torch.tensor([[4.0, 0.0, 0.0]])]
    found = [tracker.step(embedding, one).class_logits for one in logits]
    assert torch.allclose(found[1], torch.tensor([[2.5, 2.5, 0.0]]))
    assert torch.allclose(found[2], torch.tensor([[3.0, 5 / 3, 0.0]]))


def test_doubtful_queries_go_on_with_a_track_but_begin_none():
    tracker = Tracker(start=0.6, follow=0.3)
    doubtful = torch.tensor([[0.0, 0.0]])  # 0.5
    assert tracker.step(torch.ones(1, 4), doubtful).tracks == []
    assert tracker.step(torch.ones(1, 4), torch.tensor([[3.0, 0.0]])).tracks == [1]
    assert tracker.step(torch.ones(1, 4), doubtful).tracks == [1]
    assert tracker.step(torch.ones(1, 4), torch.tensor([[-3.0, 0.0]])).tracks == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 2, 30]), st.sampled_from([0.0, 0.7]), st.sampled_from([0.4, 1.0]))
def test_films_of_any_kind_have_sound_tracks(seed, memory, overlap, duplicates):
    """Objects flicker, change their looks and places, and frames their size: books are kept by track number here."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    queries = 9
    looks, places = draw(queries, 5), draw(queries, 6, 7)
    tracker = Tracker(0.5, None, 0.4, memory, overlap, duplicates)
    of_track: dict[int, list[torch.Tensor]] = {}
    last: dict[int, int] = {}
    for number in range(25):
        logits = 3 * draw(queries, 4)
        if number % 9 == 8:
            logits[:, -1] = 99.0  # a frame that shows nothing
        order = torch.randperm(queries, generator=random)
        shape = (6, 7) if number % 7 else (5, 7)
        seen = ((places + 0.3 * draw(queries, 6, 7)) > 0.3)[order, : shape[0]]
        found = tracker.step((looks + 0.4 * draw(queries, 5))[order], logits, lambda rows, masks=seen: masks[rows])
        assert len(set(found.tracks)) == len(found.tracks) == len(found.queries)
        assert found.queries.tolist() == sorted(set(found.queries.tolist()))
        new = [track for track in found.tracks if track not in of_track]
        assert new == [len(of_track) + 1 + place for place in range(len(new))]
        for query, track, mean in zip(found.queries.tolist(), found.tracks, found.class_logits, strict=True):
            objectness = 1 - logits[query].softmax(-1)[-1]
            assert objectness >= (0.5 if track in new else 0.25)
            assert number - last.get(track, number) <= memory + 1
            of_track.setdefault(track, []).append(logits[query])
            last[track] = number
            assert torch.allclose(mean, torch.stack(of_track[track]).mean(0), atol=1e-4)


def test_what_is_kept_does_not_grow_with_the_film():
    tracker = Tracker(memory=5)
    for number in range(300):  # a new object in each frame
        torch.manual_seed(number)
        tracker.step(torch.randn(3, 64), torch.tensor([[SURE, EMPTY]] * 3))
        assert len(tracker._known) <= 3 * 7


def test_a_film_without_objects():
    tracker = Tracker()
    for _ in range(3):
        found = tracker.step(torch.randn(2, 4), torch.tensor([[EMPTY, SURE]] * 2))
        assert found.tracks == [] and found.queries.shape == (0,) and found.class_logits.shape == (0, 2)


def test_after_a_reset_numbers_begin_anew():
    tracker, known = Tracker(), objects(1)
    tracker.step(*frame(known, [0]))
    tracker.reset()
    assert tracker.step(*frame({0: -known[0]}, [0])).tracks == [1]


@pytest.mark.parametrize("wrong", [{"start": 1.5}, {"follow": 0.9}, {"similarity": 2}, {"memory": -1}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="Tracker"):
        Tracker(**wrong)
