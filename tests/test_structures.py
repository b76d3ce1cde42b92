"""Both forms of masks are the same protocol."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mask2former.structures import (
    DenseMasks,
    FactoredMasks,
    MaskPrediction,
    MaskTargets,
    resize_frames,
    sharing_features,
)


@settings(deadline=None, max_examples=25)
@given(frames=st.integers(1, 3), queries=st.lists(st.integers(0, 4), max_size=6), top=st.integers(0, 5))
def test_factored_masks_multiplied_out_are_dense_masks(frames: int, queries: list[int], top: int) -> None:
    factored = FactoredMasks(torch.randn(2, 5, 4).double(), torch.randn(2, 4, frames, 6, 7).double())
    dense = DenseMasks(torch.einsum("bqc,bcthw->bqthw", factored.mask_embed, factored.mask_features))
    chosen, rows = torch.tensor(queries, dtype=torch.int64), slice(top, 6)
    assert factored.size == dense.size == (6, 7) and factored.num_queries == dense.num_queries == 5
    torch.testing.assert_close(factored.logits(), dense.logits())
    torch.testing.assert_close(factored.logits(1, chosen, rows), dense.logits(1, chosen, rows))
    assert dense.logits(1, chosen, rows).shape == (len(queries), frames, 6 - top, 7)
    places = torch.randint(0, 42, (9,))
    for image in range(2):
        sampled = [masks.features[image, :, 0].flatten(1)[:, places] for masks in (factored, dense)]
        torch.testing.assert_close(
            factored.combine(image, sampled[0], chosen), dense.combine(image, sampled[1], chosen)
        )


@pytest.mark.parametrize(
    "masks", [FactoredMasks(torch.zeros(1, 2, 3), torch.zeros(1, 3, 1, 4, 4)), DenseMasks(torch.zeros(1, 2, 1, 4, 4))]
)
def test_rows_need_an_image(masks: FactoredMasks | DenseMasks) -> None:
    with pytest.raises(ValueError, match=f"{type(masks).__name__}.logits: `queries` and `rows`"):
        masks.logits(rows=slice(0, 2))


def test_who_shares_features() -> None:
    shared, own = torch.zeros(1, 3, 1, 4, 4), torch.zeros(1, 3, 1, 4, 4)
    layers = [
        MaskPrediction(torch.zeros(1, 2, 2), FactoredMasks(torch.zeros(1, 2, 3), x)) for x in (shared, own, shared)
    ]
    assert sharing_features(layers) == [[0, 2], [1]]


def test_targets_say_what_does_not_go_together() -> None:
    masks = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"classes \[N\] and masks \[N, T, H, W\]; found \(3,\)"):
        MaskTargets(torch.zeros(3), masks)
    with pytest.raises(ValueError, match=r"`void` \[T, H, W\] of the masks' size \(1, 4, 5\); found \(4, 5\)"):
        MaskTargets(torch.zeros(2), masks, void=masks[0, 0])


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_resized_planes_are_those_of_pytorch(shape, size, align_corners, channels_last, learns):
    masks = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masks = masks.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    found = resize_frames(masks.requires_grad_(learns), size, align_corners)

    expected = F.interpolate(masks, size, mode="bilinear", align_corners=align_corners)
    assert found.shape == expected.shape and found.requires_grad == learns
    torch.testing.assert_close(found, expected)
