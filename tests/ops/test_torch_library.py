"""The operators inside PyTorch: opcheck, autocast, compile, export, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from operators import DEVICES, OPERATORS, SHAPES, Operator, flat, needs_library, tensors_of, with_tensors
from torch import Tensor


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(op: Operator, device: str, dtype: torch.dtype) -> None:
    value, shapes, *others = op.make(dtype, device)
    leaves = [x.requires_grad_() for x in (value, *others)]
    torch.library.opcheck(op.compiled(), (leaves[0], flat(shapes), *leaves[1:]))
    grad = op.function(value, shapes, *others).detach()
    detached = [x.detach() for x in leaves]
    torch.library.opcheck(op.compiled_backward(), (grad, detached[0], flat(shapes), *detached[1:]))


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_places_exact(op: Operator, device: str, dtype: torch.dtype) -> None:
    inputs = op.make(device=device)
    halves = tuple(x if i in (1, op.exact) else x.to(dtype) for i, x in enumerate(inputs))
    mixed = (*halves[:-1], inputs[-1])
    expected = op.function(*halves)
    with torch.autocast(device, dtype):
        # As linear layers and a softmax leave them: some in autocast's format, others in float32.
        assert torch.equal(op.function(*mixed), expected)
        assert torch.equal(op.function(*inputs), expected)
        doubles = with_tensors(inputs, [x.double() for x in tensors_of(inputs)])
        assert op.function(*doubles).dtype == torch.float64
        leaves = [x.clone().requires_grad_() for x in tensors_of(inputs)]
        op.function(*with_tensors(inputs, leaves)).float().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.dtype == torch.float32 for leaf in leaves)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_without_a_graph_break(op: Operator, dynamic: bool, autocast: bool, device: str) -> None:
    def sizes_from_tensors(maps: list[Tensor], *others: Tensor) -> Tensor:
        value = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1).unflatten(-1, (4, -1))
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            return op.function(value, [(x.shape[2], x.shape[3]) for x in maps], *others)

    torch._dynamo.reset()
    compiled = torch.compile(sizes_from_tensors, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shapes in (SHAPES, [(height + 1, width + 3) for height, width in SHAPES]):
        others = [x.requires_grad_() for x in op.make(shapes=shapes, device=device)[2:]]
        maps = [torch.randn(2, 24, *shape, device=device, requires_grad=True) for shape in shapes]
        output, expected = (f(maps, *others) for f in (compiled, sizes_from_tensors))
        torch.testing.assert_close(output, expected)
        ours, theirs = (torch.autograd.grad(x.float().sum(), [*maps, *others]) for x in (output, expected))
        torch.testing.assert_close(ours, theirs)


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
def test_exports(op: Operator) -> None:
    class Module(torch.nn.Module):
        def forward(self, value: Tensor, *others: Tensor) -> Tensor:
            return op.function(value, SHAPES, *others)

    inputs = op.make()
    exported = torch.export.export(Module(), tuple(tensors_of(inputs)))
    assert f"mask2former.{op.name}" in str(exported.graph)
    assert torch.equal(exported.module()(*tensors_of(inputs)), op.function(*inputs))


@pytest.mark.parametrize("op", OPERATORS)
def test_runs_on_meta(op: Operator) -> None:
    output = op.function(*op.make(device="meta"))
    assert output.device.type == "meta" and output.shape == (2, 11, 24)


@needs_library
@pytest.mark.parametrize("op", OPERATORS)
def test_second_derivative_is_refused(op: Operator) -> None:
    inputs = op.make()
    weights = inputs[-1].requires_grad_()
    (first,) = torch.autograd.grad(op.function(*inputs).square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        first.sum().backward()
