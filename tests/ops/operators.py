"""Both operators, with random arguments and their plain PyTorch twins, for tests that hold for either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mask2former.ops import (
    library,
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)

Inputs = tuple[Any, ...]  # value, spatial_shapes, and the tensors that the operator takes besides
SHAPES = [(3, 4), (5, 7), (9, 2)]
VARIANTS = {"baseline": 0, "avx2": 1, "avx512": 2}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
needs_library = pytest.mark.skipif(not library.is_loaded("cpu"), reason="the operator is not compiled")


class Case(NamedTuple):
    """How large the arguments are; locations lie outside of the image or half so to a good part."""

    batch: int = 2
    shapes: list[tuple[int, int]] = SHAPES
    queries: int = 11
    heads: int = 4
    channels: int = 6
    points: int = 3

    def value(self) -> Tensor:
        return torch.randn(self.batch, sum(h * w for h, w in self.shapes), self.heads, self.channels).double()

    @property
    def samples(self) -> tuple[int, ...]:
        return (self.batch, self.queries, self.heads, len(self.shapes), self.points)


def classic_inputs(case: Case) -> Inputs:
    locations = torch.rand(*case.samples, 2).double() * 1.5 - 0.25
    return case.value(), case.shapes, locations, torch.rand(case.samples).double()


def fused_inputs(case: Case) -> Inputs:
    references = torch.rand(case.batch, case.queries, len(case.shapes), 2).double()
    offsets, logits = 2 * torch.randn(*case.samples, 2).double(), 2 * torch.randn(case.samples).double()
    return case.value(), case.shapes, references, offsets, logits


class Operator(NamedTuple):
    """An operator; `exact` counts its arguments that float32 is the least for."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    inputs: Callable[[Case], Inputs]
    exact: int
    names: tuple[str, ...]

    def make(self, dtype: torch.dtype = torch.float32, device: str = "cpu", **sizes: Any) -> Inputs:
        inputs = self.inputs(Case(**sizes))
        dtypes = {self.exact: torch.promote_types(dtype, torch.float32)}
        return tuple(x if i == 1 else x.to(device, dtypes.get(i, dtype)) for i, x in enumerate(inputs))

    def compiled(self) -> Any:
        return getattr(torch.ops.mask2former, self.name).default

    def compiled_backward(self) -> Any:
        return getattr(torch.ops.mask2former, f"{self.name}_backward").default


CLASSIC = Operator(
    "ms_deform_attn",
    ms_deform_attn,
    ms_deform_attn_reference,
    classic_inputs,
    2,
    ("value", "spatial_shapes", "sampling_locations", "attention_weights"),
)
FUSED = Operator(
    "ms_deform_attn_fused",
    ms_deform_attn_fused,
    ms_deform_attn_fused_reference,
    fused_inputs,
    2,
    ("value", "spatial_shapes", "reference_points", "sampling_offsets", "attention_logits"),
)
OPERATORS = [pytest.param(CLASSIC, id="classic"), pytest.param(FUSED, id="fused")]
FUNCTIONS = [
    pytest.param(op, function, id=function.__name__)
    for op in (CLASSIC, FUSED)
    for function in (op.function, op.reference)
]


def tensors_of(inputs: Inputs) -> list[Tensor]:
    return [x for i, x in enumerate(inputs) if i != 1]


def with_tensors(inputs: Inputs, tensors: list[Tensor]) -> Inputs:
    return (tensors[0], inputs[1], *tensors[1:])


def flat(shapes: list[tuple[int, int]]) -> list[int]:
    return [size for shape in shapes for size in shape]


def gradients(function: Callable[..., Tensor], inputs: Inputs, grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in tensors_of(inputs)]
    return torch.autograd.grad(function(*with_tensors(inputs, leaves)), leaves, grad)


def assert_equals_reference(op: Operator, inputs: Inputs, tolerance: float) -> None:
    output, expected = op.function(*inputs), op.reference(*inputs)
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=0)
    # Gradients of locations are sums over all channels, scaled with the level: the tolerance goes with the largest.
    grad = torch.randn_like(output)
    ours = gradients(op.function, inputs, grad)
    # On CUDA plain PyTorch has no deterministic gradient of its own to compare with.
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    theirs = gradients(op.reference, inputs, grad)
    torch.use_deterministic_algorithms(deterministic)
    for our, their in zip(ours, theirs, strict=True):
        largest = max(1.0, their.abs().max().item() if their.numel() else 0)
        torch.testing.assert_close(our, their, atol=tolerance * largest, rtol=0)
