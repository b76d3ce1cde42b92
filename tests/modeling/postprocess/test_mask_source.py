"""Masks at the size of the result against PyTorch's resizing of the whole."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mask2former.modeling.postprocess import ResizedMasks
from mask2former.structures import DenseMasks, FactoredMasks


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
    aligned=st.booleans(),
)
def test_some_rows_are_those_of_the_whole(
    seed: int,
    features: tuple[int, int],
    padding: tuple[int, int],
    output: tuple[int, int] | None,
    part: tuple[float, float],
    aligned: bool,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = FactoredMasks(
        torch.randn(1, 3, 4, generator=generator),
        torch.randn(1, 4, 1, *features, generator=generator),
        align_corners=aligned,
    )
    # Sides of 4 n + 1 where corners are aligned.
    padded = (features[0] * 4 - 3 * aligned, features[1] * 4 - 3 * aligned)
    image = (max(1, padded[0] - padding[0]), max(1, padded[1] - padding[1]))
    source = ResizedMasks(masks, 0, padded, image, output)
    options = {"mode": "bilinear", "align_corners": aligned}
    whole = F.interpolate(masks.logits()[0].transpose(0, 1), padded, **options)[..., : image[0], : image[1]]
    whole = F.interpolate(whole, source.size, **options)[0]
    height = source.size[0]
    first = int(part[0] * height)
    last = first + 1 + int(part[1] * (height - first - 1))
    torch.testing.assert_close(source.rows(torch.arange(3), first, last), whole[:, first:last], atol=1e-4, rtol=1e-4)


def test_frames_are_those_of_the_clip() -> None:
    masks = DenseMasks(torch.randn(2, 5, 3, 8, 16))
    source = ResizedMasks(masks, 1, (8, 16), (8, 16), None, frame=2)
    torch.testing.assert_close(source(torch.arange(5)), masks.mask_logits[1, :, 2])


def test_masks_that_exclude_each_other_give_their_log_odds() -> None:
    """Their probability is that of the softmax over all queries, also of those that nobody asks for."""
    masks = DenseMasks(torch.randn(1, 5, 1, 8, 16) * 3, activation="softmax")
    source = ResizedMasks(masks, 0, (32, 64), (30, 50), None)
    whole = F.interpolate(masks.mask_logits[:, :, 0], (32, 64), mode="bilinear")[0, :, :30, :50].softmax(0)
    asked = torch.tensor([3, 1])
    torch.testing.assert_close(source.rows(asked, 4, 9).sigmoid(), whole[asked, 4:9], atol=1e-5, rtol=1e-4)
