"""Deformable attention against equation 3 of its paper, sample by sample."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import deformable, normalise, randomise

from mask2former.modeling.layers.deformable_attention import DeformableSelfAttention, MSDeformAttn, PixelGrid

SIZES = [(1, 2), (2, 3), (4, 5)]
PIXELS = sum(height * width for height, width in SIZES)


def test_grid_lists_the_centres_of_pixels() -> None:
    grid = PixelGrid.of(SIZES, torch.device("cpu"))
    expected = [((x + 0.5) / w, (y + 0.5) / h) for h, w in SIZES for y in range(h) for x in range(w)]
    assert grid.sizes == SIZES
    torch.testing.assert_close(grid.reference_points, torch.tensor(expected))


@torch.no_grad()
def test_equals_the_sum_over_samples() -> None:
    layer = randomise(MSDeformAttn(8, num_levels=3, num_heads=2, num_points=2), std=0.7)
    query, pixels = torch.randn(2, 7, 8, dtype=torch.float64), torch.randn(2, PIXELS, 8, dtype=torch.float64)
    references = torch.rand(1, 7, 2)
    found = layer(query, layer.project_values(pixels), references, SIZES)
    assert found.shape == (2, 7, 8)
    for image in range(2):
        expected = deformable(layer, query[image], pixels[image], references[0].double(), SIZES)
        torch.testing.assert_close(found[image], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_self_attention_gives_values_no_position() -> None:
    block = randomise(DeformableSelfAttention(8, num_levels=3, num_heads=2, num_points=2), std=0.7)
    x, place = torch.randn(2, PIXELS, 8, dtype=torch.float64), torch.randn(PIXELS, 8, dtype=torch.float64)
    grid = PixelGrid.of(SIZES, torch.device("cpu"))
    found = block(x, place, grid)
    for image in range(2):
        attended = deformable(block.attention, x[image] + place, x[image], grid.reference_points.double(), SIZES)
        torch.testing.assert_close(found[image], normalise(block.norm, x[image] + attended), atol=1e-5, rtol=1e-5)


def test_at_first_each_head_looks_in_a_direction_of_its_own() -> None:
    """Heads point to eight sides of a square, and point p lies on the square of half side p + 1."""
    layer = MSDeformAttn(32, num_levels=3, num_heads=8, num_points=4)
    offsets = layer.sampling_offsets(torch.randn(32)).view(8, 3, 4, 2)
    for head in range(8):
        x, y = math.cos(head * math.pi / 4), math.sin(head * math.pi / 4)
        side = max(abs(x), abs(y))
        for point in range(4):
            expected = torch.tensor([x, y]) / side * (point + 1)
            for level in range(3):
                torch.testing.assert_close(offsets[head, level, point], expected, atol=1e-5, rtol=1e-5)
    assert not layer.attention_weights(torch.randn(32)).any()  # all points weigh the same


def test_heads_have_to_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="8 channels cannot be divided among 3"):
        MSDeformAttn(8, num_levels=1, num_heads=3, num_points=1)
