"""The operators against their plain PyTorch twins, and those against a loop over every number."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import (
    CLASSIC,
    DEVICES,
    FUNCTIONS,
    FUSED,
    OPERATORS,
    PRECISIONS,
    VARIANTS,
    Inputs,
    Operator,
    assert_equals_reference,
    gradients,
    needs_library,
    tensors_of,
    with_tensors,
)
from torch import Tensor

from mask2former.ops import ms_deform_attn, ms_deform_attn_reference


def loop(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Equation 3, one number after another, in NumPy."""
    v, loc, w = (x.double().numpy() for x in (value, locations, weights))
    batch, queries, heads, levels, points, _ = loc.shape
    starts = [0, *itertools.accumulate(height * width for height, width in shapes)]
    output = np.zeros((batch, queries, heads, v.shape[-1]))
    for b, q, n, level, p in itertools.product(*map(range, (batch, queries, heads, levels, points))):
        height, width = shapes[level]
        x, y = loc[b, q, n, level, p] * [width, height] - 0.5
        for column, row in itertools.product((math.floor(x), math.floor(x) + 1), (math.floor(y), math.floor(y) + 1)):
            if 0 <= column < width and 0 <= row < height:
                share = (1 - abs(x - column)) * (1 - abs(y - row))
                output[b, q, n] += w[b, q, n, level, p] * share * v[b, starts[level] + row * width + column, n]
    return torch.from_numpy(output.reshape(batch, queries, -1))


def test_reference_equals_loop() -> None:
    inputs = CLASSIC.make(torch.float64)
    torch.testing.assert_close(ms_deform_attn_reference(*inputs), loop(*inputs), atol=1e-12, rtol=0)


@needs_library
def test_operator_equals_loop() -> None:
    inputs = CLASSIC.make(torch.float64, channels=17)
    torch.testing.assert_close(ms_deform_attn(*inputs), loop(*inputs), atol=1e-12, rtol=0)


@pytest.mark.parametrize("function", [FUSED.function, FUSED.reference])
def test_fused_operator_equals_loop(function: Callable[..., Tensor]) -> None:
    inputs = FUSED.make(torch.float64)
    value, shapes, references, offsets, logits = inputs
    size = torch.tensor([(width, height) for height, width in shapes])[:, None]
    locations = references[:, :, None, :, None] + offsets / size
    weights = logits.exp() / logits.exp().sum((-1, -2), keepdim=True)
    torch.testing.assert_close(function(*inputs), loop(value, shapes, locations, weights), atol=1e-12, rtol=0)


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 30, 32, 33, 64, 103])
def test_equals_reference(op: Operator, dtype: torch.dtype, tolerance: float, channels: int, device: str) -> None:
    assert_equals_reference(op, op.make(dtype, device, channels=channels), tolerance)


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_every_instruction_set_equals_reference(
    op: Operator, name: str, dtype: torch.dtype, tolerance: float, limit_variant: Callable[[int], int]
) -> None:
    if limit_variant(VARIANTS[name]) != VARIANTS[name]:
        pytest.skip(f"this machine has no {name}")
    for channels in (1, 5, 8, 32, 63):
        assert_equals_reference(op, op.make(dtype, channels=channels), tolerance)


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(0, 3),
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    queries=st.integers(0, 70),
    heads=st.integers(1, 3),
    channels=st.integers(0, 20),
    points=st.integers(1, 5),
)
def test_any_shape(
    op: Operator, batch: int, shapes: list[tuple[int, int]], queries: int, heads: int, channels: int, points: int
) -> None:
    inputs = op.make(
        torch.float64, batch=batch, shapes=shapes, queries=queries, heads=heads, channels=channels, points=points
    )
    assert op.function(*inputs).shape == (batch, queries, heads * channels)
    assert_equals_reference(op, inputs, 1e-10)


@pytest.mark.parametrize(("op", "function"), FUNCTIONS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("batch", "queries"), [(0, 3), (2, 0), (0, 0)])
def test_empty(batch: int, queries: int, device: str, op: Operator, function: Callable[..., Tensor]) -> None:
    inputs = op.make(device=device, batch=batch, queries=queries)
    output = function(*inputs)
    assert output.shape == (batch, queries, 24)
    assert [g.shape for g in gradients(function, inputs, output)] == [x.shape for x in tensors_of(inputs)]
    assert not gradients(function, inputs, output)[0].any()


SMALL = {"batch": 1, "shapes": [(2, 3), (4, 2)], "queries": 3, "heads": 2, "channels": 2, "points": 2}


def away_from_kinks(pixels: Tensor) -> Tensor:
    """Bilinear interpolation has a kink at pixel centres."""
    return pixels.floor() + (pixels - pixels.floor()).clamp(0.1, 0.9)


@needs_library
@pytest.mark.parametrize("device", DEVICES)
def test_gradcheck(device: str) -> None:
    value, shapes, locations, weights = CLASSIC.make(torch.float64, device, **SMALL)
    size = torch.tensor([(w, h) for h, w in shapes], device=device)[:, None, :]
    locations = (away_from_kinks(locations * size - 0.5) + 0.5) / size
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    # Sums on CUDA meet in any order.
    check = functools.partial(torch.autograd.gradcheck, nondet_tol=1e-12 if device == "cuda" else 0.0)
    assert check(lambda v, x, w: ms_deform_attn(v, shapes, x, w), leaves)


@needs_library
@pytest.mark.parametrize("device", DEVICES)
def test_gradcheck_fused(device: str) -> None:
    value, shapes, references, offsets, logits = FUSED.make(torch.float64, device, **SMALL)
    size = torch.tensor([(w, h) for h, w in shapes], device=device)
    centres = (references * size - 0.5)[:, :, None, :, None]
    offsets = away_from_kinks(centres + offsets) - centres
    leaves = [x.requires_grad_() for x in (value, references, offsets, logits)]
    check = functools.partial(torch.autograd.gradcheck, nondet_tol=1e-12 if device == "cuda" else 0.0)
    assert check(lambda v, *others: FUSED.function(v, shapes, *others), leaves)


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axes", [axes for n in range(4) for axes in itertools.combinations(range(3), n)])
def test_reference_points_are_broadcast(axes: tuple[int, ...], device: str) -> None:
    value, shapes, references, *others = FUSED.make(torch.float64, device)
    for axis in axes:
        references = references.narrow(axis, 0, 1)
    assert_equals_reference(FUSED, (value, shapes, references, *others), 1e-10)
    expanded = references.expand(2, 11, 3, 2).contiguous()
    assert torch.equal(
        FUSED.function(value, shapes, references, *others), FUSED.function(value, shapes, expanded, *others)
    )


@pytest.mark.parametrize("function", [CLASSIC.function, CLASSIC.reference])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [1e6, -1e6, 1e30, math.inf, -math.inf, math.nan])
def test_hopeless_locations_add_nothing(bad: float, device: str, function: Callable[..., Tensor]) -> None:
    value, shapes, locations, weights = CLASSIC.make(device=device)
    locations[:, ::2] = bad
    locations[:, 1::2, :, :, 1, 0] = bad  # one coordinate is enough
    inputs = (value, shapes, locations, weights)
    output = function(*inputs)
    without = weights.clone()
    without[:, ::2] = 0
    without[:, 1::2, :, :, 1] = 0
    expected = function(value, shapes, locations.nan_to_num(0.5, 0.5, 0.5).clamp(-1, 2), without)
    torch.testing.assert_close(output, expected)
    assert not output[:, ::2].any()
    grads = gradients(function, inputs, torch.ones_like(output))
    assert all(g.isfinite().all() for g in grads)
    assert all(not g[:, ::2].any() for g in grads[1:])


@pytest.mark.parametrize("function", [FUSED.function, FUSED.reference])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [1e6, -1e6, 1e30, math.inf, -math.inf, math.nan])
def test_hopeless_offsets_add_nothing(bad: float, device: str, function: Callable[..., Tensor]) -> None:
    """Their share of the softmax is lost, and what the others get is as with a place just outside."""
    inputs = FUSED.make(device=device)
    value, shapes, references, offsets, logits = inputs
    offsets[:, ::2] = bad
    offsets[:, 1::2, :, :, 1, 0] = bad  # one coordinate is enough
    output = function(*inputs)
    outside = offsets.where(offsets.abs() < 1e5, torch.full_like(offsets, -40.0))
    torch.testing.assert_close(output, function(value, shapes, references, outside, logits))
    assert not output[:, ::2].any()
    grads = gradients(function, inputs, torch.ones_like(output))
    assert all(g.isfinite().all() for g in grads)
    assert not grads[2][:, ::2].any() and not grads[3][:, ::2].any()


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_of_extreme_logits(dtype: torch.dtype, device: str) -> None:
    *others, logits = FUSED.make(dtype, device)
    logits[:, 0] = 1e4 * logits[:, 0]
    logits[:, 1, :, 0] = -math.inf
    logits[:, 2] = 3e4
    assert_equals_reference(FUSED, (*others, logits), 1e-5)
    logits[:, 3, 0, 0, 0] = math.nan
    assert FUSED.function(*others, logits)[:, 3, : others[0].shape[-1]].isnan().any()


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("device", DEVICES)
def test_strided_inputs(op: Operator, device: str) -> None:
    inputs = op.make(device=device)
    strided = with_tensors(inputs, [torch.stack([x, -x], -1)[..., 0] for x in tensors_of(inputs)])
    strided = (strided[0].transpose(1, 2).contiguous().transpose(1, 2), *strided[1:])
    assert not any(x.is_contiguous() for x in tensors_of(strided))
    output = op.function(*inputs)
    assert torch.equal(op.function(*strided), output)
    grad = torch.randn(output.shape[::-1], device=device).permute(2, 1, 0)
    ours, theirs = gradients(op.function, strided, grad), gradients(op.function, inputs, grad.contiguous())
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-5 if device == "cuda" else 0, rtol=0)


@pytest.mark.parametrize(("op", "function"), FUNCTIONS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_formats_are_summed_in_float32(
    dtype: torch.dtype, device: str, op: Operator, function: Callable[..., Tensor]
) -> None:
    """With places in float32: the only error is the rounding of inputs and result."""
    inputs = op.make(dtype, device)
    exact_inputs = with_tensors(inputs, [x.double() for x in tensors_of(inputs)])
    output, exact = function(*inputs), op.reference(*exact_inputs)
    assert output.dtype == dtype
    tolerance = {"atol": 1e-4, "rtol": torch.finfo(dtype).eps}
    torch.testing.assert_close(output.double(), exact, **tolerance)
    grad = torch.randn_like(output)
    grads, expected = gradients(function, inputs, grad), gradients(op.reference, exact_inputs, grad.double())
    assert [g.dtype for g in grads] == [x.dtype for x in tensors_of(inputs)]
    for i, (our, their) in enumerate(zip(grads, expected, strict=True)):
        # Those of reference points are the sum of rounded gradients of offsets, each times the level's size.
        summed = op is FUSED and i == 1
        torch.testing.assert_close(our.double(), their, atol=0.3 if summed else 1e-4, rtol=tolerance["rtol"])


@needs_library
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_is_read_and_written_as_pytorch_does(
    dtype: torch.dtype, limit_variant: Callable[[int], int]
) -> None:
    """One pixel, looked at in its centre, comes out as it went in; its gradient is what is given."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    every = every[every.isfinite()].view(1, -1, 1, 1)
    sizes = (1, 1, 1, 1, 1)
    for limit in VARIANTS.values():
        limit_variant(limit)
        for scale in (1.0, 0.75):  # the second needs rounding
            value = torch.full((1, 1, 1, every.numel()), 1.0, dtype=dtype) * every.view(1, 1, 1, -1)
            point = torch.full((1, 1, 1, 2), 0.5)
            offset = torch.tensor([1 - scale, 0.0], dtype=dtype).expand(*sizes, 2)
            output = FUSED.function(value, [(1, 1)], point, offset, torch.zeros(sizes, dtype=dtype))
            assert torch.equal(output.flatten(), (every.flatten().float() * scale).to(dtype))


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
def test_same_bits_with_any_number_of_threads(op: Operator, threads: Callable[[int], None]) -> None:
    inputs: Inputs = op.make(batch=1, queries=1501, heads=3, channels=32)
    grad = torch.randn(1, 1501, 96)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append([op.function(*inputs), *gradients(op.function, inputs, grad)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
