"""Segments of a semantic prediction against a flood fill in plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.evaluation.semantic_segments import segments_of


def slow_segments(labels, things):
    """{(class, frozenset of pixels)}."""
    left = {(int(y), int(x)) for y, x in np.ndindex(labels.shape)}
    found = set()
    while left:
        start = left.pop()
        category, part, border = int(labels[start]), {start}, [start]
        while border:
            y, x = border.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left and labels[near] == category:
                    left.remove(near)
                    part.add(near)
                    border.append(near)
        found.add((category, frozenset(part)))
    stuff = {c: frozenset().union(*(p for k, p in found if k == c)) for c, _ in found if c not in things}
    return {(c, p) for c, p in found if c in things} | set(stuff.items())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_segments_of_random_labels(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (7, 9))
    things = {1, 3}
    ids, segments = segments_of(labels, things)
    assert ids.dtype == np.int32
    assert [s["id"] for s in segments] == list(range(1, len(segments) + 1))
    assert all(s["isthing"] is (s["category_id"] in things) for s in segments)
    found = {(s["category_id"], frozenset(map(tuple, np.argwhere(ids == s["id"]).tolist()))) for s in segments}
    assert found == slow_segments(labels, things)
    assert ids.min() == 1
