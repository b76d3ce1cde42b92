"""With deterministic algorithms, gradients are the same bits in every run; on CUDA by fixed-point sums."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from operators import DEVICES, OPERATORS, PRECISIONS, Operator, assert_equals_reference, gradients, needs_library


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_same_bits_in_every_run(op: Operator, device: str, dtype: torch.dtype) -> None:
    inputs = op.make(dtype, device, queries=3000, shapes=[(2, 3), (4, 4)], channels=32)
    grad = torch.randn(2, 3000, 128, device=device).to(dtype)
    first = gradients(op.function, inputs, grad)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, gradients(op.function, inputs, grad), strict=True))


@needs_library
@pytest.mark.gpu
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_fixed_point_sums_on_cuda_are_exact_enough(
    op: Operator, dtype: torch.dtype, tolerance: float, scale: float
) -> None:
    inputs = op.make(dtype, "cuda", channels=32)
    assert_equals_reference(op, inputs, tolerance)
    grad = torch.randn(2, 11, 128, device="cuda", dtype=dtype)
    ours, theirs = (gradients(op.function, inputs, factor * grad)[0] for factor in (scale, 1.0))
    torch.testing.assert_close(ours / scale, theirs, atol=tolerance, rtol=0)


@needs_library
@pytest.mark.gpu
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_fixed_point_sums_on_cuda_do_not_hide_what_is_not_finite(op: Operator, bad: float) -> None:
    inputs = op.make(device="cuda")
    grad = torch.ones(2, 11, 24, device="cuda")
    assert gradients(op.function, inputs, 0 * grad)[0].eq(0).all()
    grad[1, 3, 5] = bad
    assert gradients(op.function, inputs, grad)[0].isnan().all()
