"""The published operator package's module and the position encoding, against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from mask2former.modeling.pixel_decoder.ops.functions import MSDeformAttnFunction, ms_deform_attn_core_pytorch
from mask2former.modeling.pixel_decoder.ops.modules import MSDeformAttn
from mask2former.modeling.transformer_decoder.position_encoding import PositionEmbeddingSine
from torch import Tensor

from mask2former.modeling.layers.position_encoding import SinePositionEncoding

SHAPES = [(3, 4), (2, 2)]
LEVELS, HEADS, POINTS, CHANNELS, QUERIES, BATCH = len(SHAPES), 2, 3, 8, 5, 2
STARTS = torch.tensor([0, 12])


def bilinear(level: Tensor, x: float, y: float) -> Tensor:
    """Value at a place, in pixels with centres at integers; zero outside. level: [H, W, C]."""
    height, width = level.shape[:2]
    total = torch.zeros(level.shape[-1], dtype=level.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * level[row, column]
    return total


def plainly(module: MSDeformAttn, query: Tensor, places: Tensor, values: Tensor, padding: Tensor | None) -> Tensor:
    """Equation 3 of Deformable DETR, one sample after the other."""
    projected = module.value_proj(values)
    if padding is not None:
        projected = torch.where(padding[..., None], 0.0, projected)
    projected = projected.view(BATCH, -1, HEADS, CHANNELS // HEADS)
    result = torch.zeros(BATCH, QUERIES, HEADS, CHANNELS // HEADS, dtype=query.dtype)
    offsets = module.sampling_offsets(query).view(BATCH, QUERIES, HEADS, LEVELS, POINTS, 2)
    weights = module.attention_weights(query).view(BATCH, QUERIES, HEADS, -1).softmax(-1)
    weights = weights.view(BATCH, QUERIES, HEADS, LEVELS, POINTS)
    for b, q, h, n, p in torch.cartesian_prod(*map(torch.arange, (BATCH, QUERIES, HEADS, LEVELS, POINTS))).tolist():
        height, width = SHAPES[n]
        level = projected[b, int(STARTS[n]) :][: height * width, h].view(height, width, -1)
        place, (dx, dy) = places[b, q, n].tolist(), offsets[b, q, h, n, p].tolist()
        if len(place) == 2:
            x, y = place[0] * width + dx, place[1] * height + dy
        else:
            x = (place[0] + dx / POINTS * place[2] / 2) * width
            y = (place[1] + dy / POINTS * place[3] / 2) * height
        result[b, q, h] += weights[b, q, h, n, p] * bilinear(level, x - 0.5, y - 0.5)
    return module.output_proj(result.flatten(2))


@pytest.fixture
def module() -> MSDeformAttn:
    module = MSDeformAttn(CHANNELS, LEVELS, HEADS, POINTS).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("boxes", [2, 4])
@torch.no_grad()
def test_attention_is_its_equation(module: MSDeformAttn, boxes: int, padded: bool) -> None:
    query, values = torch.randn(BATCH, QUERIES, CHANNELS).double(), torch.randn(BATCH, 16, CHANNELS).double()
    places = torch.rand(BATCH, QUERIES, LEVELS, boxes).double()
    padding = torch.rand(BATCH, 16) < 0.4 if padded else None
    found = module(query, places, values, torch.tensor(SHAPES), STARTS, padding)
    torch.testing.assert_close(found, plainly(module, query, places, values, padding))


def test_parameters_have_the_published_names_and_first_values() -> None:
    module = MSDeformAttn(d_model=256, n_levels=3, n_heads=8, n_points=4)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert shapes == {
        "sampling_offsets.weight": (192, 256),
        "sampling_offsets.bias": (192,),
        "attention_weights.weight": (96, 256),
        "attention_weights.bias": (96,),
        "value_proj.weight": (256, 256),
        "value_proj.bias": (256,),
        "output_proj.weight": (256, 256),
        "output_proj.bias": (256,),
    }
    offsets = module.sampling_offsets.bias.detach().view(8, 3, 4, 2)
    # Eight directions, an eighth of a turn apart, on the square of side 2: point p lies p + 1 pixels away.
    around = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for point in range(4):
        expected = torch.tensor(around, dtype=torch.float32)[:, None] * (point + 1)
        torch.testing.assert_close(offsets[:, :, point], expected.expand(8, 3, 2), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="divisible"):
        MSDeformAttn(10, n_heads=4)


def test_both_published_functions_agree_and_have_gradients() -> None:
    value = torch.randn(BATCH, 16, HEADS, 4, dtype=torch.float64, requires_grad=True)
    places = torch.rand(BATCH, QUERIES, HEADS, LEVELS, POINTS, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(BATCH, QUERIES, HEADS, LEVELS, POINTS, dtype=torch.float64, requires_grad=True)
    shapes = torch.tensor(SHAPES)
    compiled = MSDeformAttnFunction.apply(value, shapes, STARTS, places, weights, 128)
    plain = ms_deform_attn_core_pytorch(value, shapes, places, weights)
    torch.testing.assert_close(compiled, plain)
    for one, other in zip(
        torch.autograd.grad(compiled.square().sum(), (value, places, weights)),
        torch.autograd.grad(plain.square().sum(), (value, places, weights)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_normalised_positions_are_the_decoders() -> None:
    found = PositionEmbeddingSine(16, normalize=True)(torch.zeros(2, 3, 5, 7))
    expected = SinePositionEncoding(32)((5, 7))[:, 0]
    assert found.shape == (2, 32, 5, 7)
    torch.testing.assert_close(found, expected.expand(2, -1, -1, -1))


def test_positions_count_the_picture_alone() -> None:
    mask = torch.zeros(1, 3, 4, dtype=torch.bool)
    mask[:, :, 3] = mask[:, 2] = True  # the picture is 2 x 3
    found = PositionEmbeddingSine(4, temperature=100)(torch.zeros(1, 8, 3, 4), mask)
    for y, x in [(0, 0), (1, 2), (0, 1)]:
        of_y = [f((y + 1) / 10**k) for k in (0, 1) for f in (math.sin, math.cos)]
        of_x = [f((x + 1) / 10**k) for k in (0, 1) for f in (math.sin, math.cos)]
        assert found[0, :, y, x].tolist() == pytest.approx([*of_y, *of_x], abs=1e-6)
    scaled = PositionEmbeddingSine(4, temperature=100, normalize=True, scale=1.0)(torch.zeros(1, 8, 3, 4), mask)
    assert scaled[0, 0, 1, 0].item() == pytest.approx(math.sin(1), abs=1e-5)  # the last row of the picture
    with pytest.raises(ValueError, match="normalize"):
        PositionEmbeddingSine(4, scale=1.0)
