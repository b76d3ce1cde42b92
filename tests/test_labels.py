"""Labels of scores against PyTorch's own maximum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former import labels
from mask2former.labels import argmax_labels, semantic_labels


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([1, 2, 40, 255, 256, 300]),
    size=st.tuples(st.integers(0, 9), st.integers(1, 9)),
    kind=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(deadline=None, max_examples=60)
def test_the_first_of_the_greatest(seed: int, classes: int, size: tuple[int, int], kind: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (classes, *size)).astype(np.float32)  # with many ties
    for strange in (np.nan, np.inf, -np.inf):
        values[rng.random(values.shape) < 0.02] = strange
    scores = torch.from_numpy(values).to(kind)
    found = argmax_labels(scores)
    assert found.dtype == torch.int16
    assert torch.equal(found.long(), scores.max(dim=0).indices)


@pytest.mark.parametrize("large", [0, 1 << 16])
def test_small_and_large_images(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.rand(7, 50, 60).mul(5).round()  # with many ties
    scores[:, 7, 8] = float("nan")
    monkeypatch.setattr(labels, "_PIXELS", 1024)
    monkeypatch.setattr(labels, "_LARGE", large)
    for view in (scores, scores[:, 3:40, 5:50], scores.transpose(1, 2), scores.requires_grad_()):
        assert torch.equal(argmax_labels(view).long(), view.argmax(dim=0))


@pytest.mark.parametrize("classes", [3, 300])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_no_number_is_refused_anywhere(classes: int, kind: torch.dtype) -> None:
    scores = torch.rand(classes, 9, 11).to(kind)
    argmax_labels(scores, refuse_nan=True)
    for place in ((0, 0, 0), (1, 4, 5), (classes - 1, 8, 10)):
        strange = scores.clone()
        strange[place] = float("nan")
        with pytest.raises(ValueError, match=r"not numbers \(NaN\)"):
            argmax_labels(strange, refuse_nan=True)
        with pytest.raises(ValueError, match=r"not numbers \(NaN\)"):
            semantic_labels({"sem_seg": strange}, refuse_nan=True)
        assert argmax_labels(strange)[place[1:]] == place[0]


def test_labels_stay_what_they_are() -> None:
    given_labels = torch.tensor([[1, 2]], dtype=torch.int16)
    assert semantic_labels({"sem_seg_labels": given_labels}) is given_labels
    with pytest.raises(ValueError, match="labels go under `sem_seg_labels`"):
        semantic_labels({"sem_seg": given_labels})
