"""Sampling against PyTorch's own, and the choice of points against its definition."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mask2former.modeling.layers.point_sampling import sample_masks, sample_points, uncertain_points


@settings(deadline=None, max_examples=50)
@given(
    rows=st.integers(0, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    points=st.integers(1, 20),
    shared=st.booleans(),
)
def test_masks_read_as_floats_would(rows: int, height: int, width: int, points: int, shared: bool) -> None:
    masks = torch.rand(rows, height, width) > 0.5
    where = torch.rand(points, 2) if shared else torch.rand(rows, points, 2)
    where = where * 1.4 - 0.2  # also outside
    expected = F.grid_sample(
        masks[:, None].float(), (2 * where - 1).expand(rows, points, 2)[:, None], align_corners=False
    )
    torch.testing.assert_close(sample_masks(masks, where), expected[:, 0, 0], atol=1e-5, rtol=0)


def test_rows_choose_masks() -> None:
    masks, rows, where = torch.rand(4, 5, 7) > 0.5, torch.tensor([3, 0, 3]), torch.rand(3, 11, 2)
    assert torch.equal(sample_masks(masks, where, rows), sample_masks(masks[rows], where))


def test_pixel_centres_read_pixels() -> None:
    maps = torch.randn(2, 3, 4, 5)
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(5) + 0.5) / 5, indexing="ij")
    points = torch.stack([x, y], -1).reshape(1, 20, 2).expand(2, -1, -1)
    torch.testing.assert_close(sample_points(maps, points), maps.flatten(2))


def test_uncertain_points_lie_where_logits_change_sign() -> None:
    """Logits are a ramp with its zero at x = 0.5: three quarters of the points gather there, the rest anywhere."""
    logits = torch.linspace(-10, 10, 64).expand(2, 16, 64)
    points = uncertain_points(logits, 400, oversample_ratio=3.0, importance_sample_ratio=0.75)
    assert points.shape == (2, 400, 2)
    distance = (points[..., 0] - 0.5).abs()
    # The 300 nearest of 1200 uniform candidates lie within a quarter of the width, 0.125 to each side.
    # (Beyond the outermost pixel centres zeros mix in, so a few of them lie at the border.)
    assert (distance[:, :300] < 0.16).float().mean() > 0.97
    assert (distance[:, 300:] > 0.25).float().mean() > 0.3


def test_uncertain_points_of_many_masks() -> None:
    """More masks than are taken at a time: each has its points where its own logits change sign."""
    place = torch.linspace(0, 1, 64)
    zeros = torch.linspace(0.2, 0.8, 150)
    logits = (place - zeros[:, None])[:, None].expand(-1, 16, -1)
    points = uncertain_points(logits, 100, oversample_ratio=3.0, importance_sample_ratio=0.75)
    assert points.shape == (150, 100, 2)
    assert ((points[:, :75, 0].median(1).values - zeros).abs() < 0.1).all()
