"""The operator against its plain PyTorch twin, and that against a loop over every number."""

from __future__ import annotations

import ast
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mask2former.ops import __main__ as report
from mask2former.ops import library, ms_deform_attn, ms_deform_attn_reference

Inputs = tuple[Tensor, list[tuple[int, int]], Tensor, Tensor]
needs_library = pytest.mark.skipif(not library.is_loaded("cpu"), reason="the operator is not compiled")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SHAPES = [(3, 4), (5, 7), (9, 2)]
VARIANTS = {"baseline": 0, "avx2": 1, "avx512": 2}


@pytest.fixture(autouse=True)
def _skip_without_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu"):
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        if not library.is_loaded("cuda"):
            pytest.skip("the CUDA operator is not compiled")


@pytest.fixture
def limit_variant() -> Iterator[Callable[[int], int]]:
    yield torch.ops.mask2former._limit_cpu_variant
    torch.ops.mask2former._limit_cpu_variant(max(VARIANTS.values()))


def make_inputs(
    batch: int = 2,
    shapes: list[tuple[int, int]] | None = None,
    queries: int = 11,
    heads: int = 4,
    channels: int = 6,
    points: int = 3,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Inputs:
    """Random values; a good part of the locations lies outside of the picture, or half so."""
    shapes = SHAPES if shapes is None else shapes
    pixels = sum(height * width for height, width in shapes)
    value = torch.randn(batch, pixels, heads, channels, dtype=dtype)
    locations = torch.rand(batch, queries, heads, len(shapes), points, 2, dtype=dtype) * 1.5 - 0.25
    weights = torch.rand(batch, queries, heads, len(shapes), points, dtype=dtype)
    return value.to(device), shapes, locations.to(device), weights.to(device)


def gradients(function: Callable[..., Tensor], inputs: Inputs, grad: Tensor) -> tuple[Tensor, ...]:
    value, shapes, locations, weights = inputs
    leaves = [x.detach().requires_grad_() for x in (value, locations, weights)]
    return torch.autograd.grad(function(leaves[0], shapes, *leaves[1:]), leaves, grad)


def assert_equals_reference(inputs: Inputs, tolerance: float) -> None:
    output, expected = ms_deform_attn(*inputs), ms_deform_attn_reference(*inputs)
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=0)
    # Gradients of locations are sums over all channels, scaled with the level: the tolerance goes with the largest.
    grad = torch.randn_like(output)
    ours, theirs = (gradients(function, inputs, grad) for function in (ms_deform_attn, ms_deform_attn_reference))
    for our, their in zip(ours, theirs, strict=True):
        largest = max(1.0, their.abs().max().item() if their.numel() else 0)
        torch.testing.assert_close(our, their, atol=tolerance * largest, rtol=0)


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
    inputs = make_inputs(dtype=torch.float64)
    torch.testing.assert_close(ms_deform_attn_reference(*inputs), loop(*inputs), atol=1e-12, rtol=0)


@needs_library
def test_operator_equals_loop() -> None:
    inputs = make_inputs(dtype=torch.float64, channels=17)
    torch.testing.assert_close(ms_deform_attn(*inputs), loop(*inputs), atol=1e-12, rtol=0)


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("channels", [1, 6, 16, 32, 33, 64, 103])
def test_equals_reference(dtype: torch.dtype, tolerance: float, channels: int, device: str) -> None:
    assert_equals_reference(make_inputs(channels=channels, dtype=dtype, device=device), tolerance)


@needs_library
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_every_instruction_set_equals_reference(
    name: str, dtype: torch.dtype, tolerance: float, limit_variant: Callable[[int], int]
) -> None:
    if limit_variant(VARIANTS[name]) != VARIANTS[name]:
        pytest.skip(f"this machine has no {name}")
    for channels in (1, 5, 8, 32, 63):
        assert_equals_reference(make_inputs(channels=channels, dtype=dtype), tolerance)


@needs_library
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
    batch: int, shapes: list[tuple[int, int]], queries: int, heads: int, channels: int, points: int
) -> None:
    inputs = make_inputs(batch, shapes, queries, heads, channels, points, torch.float64)
    assert ms_deform_attn(*inputs).shape == (batch, queries, heads * channels)
    assert_equals_reference(inputs, 1e-10)


@pytest.mark.parametrize("function", [ms_deform_attn, ms_deform_attn_reference])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("batch", "queries"), [(0, 3), (2, 0), (0, 0)])
def test_empty(batch: int, queries: int, device: str, function: Callable[..., Tensor]) -> None:
    inputs = make_inputs(batch=batch, queries=queries, device=device)
    output = function(*inputs)
    assert output.shape == (batch, queries, 24)
    assert [g.shape for g in gradients(function, inputs, output)] == [inputs[i].shape for i in (0, 2, 3)]
    assert not gradients(function, inputs, output)[0].any()


@needs_library
def test_gradcheck() -> None:
    value, shapes, locations, weights = make_inputs(1, [(2, 3), (4, 2)], 3, 2, 2, 2, torch.float64)
    # Away from pixel centres, where bilinear interpolation has a kink.
    size = torch.tensor([(w, h) for h, w in shapes])[:, None, :]
    cells = locations * size - 0.5
    cells = cells.floor() + (cells - cells.floor()).clamp(0.1, 0.9)
    leaves = [x.requires_grad_() for x in (value, (cells + 0.5) / size, weights)]
    assert torch.autograd.gradcheck(lambda v, x, w: ms_deform_attn(v, shapes, x, w), leaves)


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(device: str, dtype: torch.dtype) -> None:
    value, shapes, locations, weights = make_inputs(device=device)
    leaves = [x.requires_grad_() for x in (value.to(dtype), locations, weights.to(dtype))]
    flat = [size for shape in shapes for size in shape]
    operators = torch.ops.mask2former
    torch.library.opcheck(operators.ms_deform_attn.default, (leaves[0], flat, *leaves[1:]))
    grad = ms_deform_attn(value, shapes, locations, weights).detach().to(dtype)
    detached = [x.detach() for x in leaves]
    torch.library.opcheck(operators.ms_deform_attn_backward.default, (grad, detached[0], flat, *detached[1:]))


@pytest.mark.parametrize("function", [ms_deform_attn, ms_deform_attn_reference])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [1e6, -1e6, 1e30, math.inf, -math.inf, math.nan])
def test_hopeless_locations_add_nothing(bad: float, device: str, function: Callable[..., Tensor]) -> None:
    value, shapes, locations, weights = make_inputs(device=device)
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


@needs_library
@pytest.mark.parametrize("device", DEVICES)
def test_strided_inputs(device: str) -> None:
    value, shapes, locations, weights = make_inputs(device=device)
    strided: Inputs = (
        value.transpose(1, 2).contiguous().transpose(1, 2),
        shapes,
        locations.transpose(2, 3).contiguous().transpose(2, 3),
        torch.stack([weights, weights], -1)[..., 0],
    )
    assert not any(x.is_contiguous() for x in (strided[0], *strided[2:]))
    output = ms_deform_attn(value, shapes, locations, weights)
    assert torch.equal(ms_deform_attn(*strided), output)
    grad = torch.randn(output.shape[::-1], device=device).permute(2, 1, 0)
    ours = gradients(ms_deform_attn, strided, grad)
    theirs = gradients(ms_deform_attn, (value, shapes, locations, weights), grad.contiguous())
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-5 if device == "cuda" else 0, rtol=0)


@pytest.mark.parametrize("function", [ms_deform_attn, ms_deform_attn_reference])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_formats_are_summed_in_float32(dtype: torch.dtype, device: str, function: Callable[..., Tensor]) -> None:
    """With locations in float32: the only error is the rounding of inputs and result."""
    value, shapes, locations, weights = make_inputs(device=device)
    inputs = (value.to(dtype), shapes, locations, weights.to(dtype))
    exact_inputs = (inputs[0].double(), shapes, locations.double(), inputs[3].double())
    output, exact = function(*inputs), ms_deform_attn_reference(*exact_inputs)
    assert output.dtype == dtype
    tolerance = {"atol": 1e-4, "rtol": torch.finfo(dtype).eps}
    torch.testing.assert_close(output.double(), exact, **tolerance)
    grad = torch.randn_like(output)
    grads = gradients(function, inputs, grad)
    assert [g.dtype for g in grads] == [dtype, torch.float32, dtype]
    for our, their in zip(grads, gradients(ms_deform_attn_reference, exact_inputs, grad.double()), strict=True):
        torch.testing.assert_close(our.double(), their, **tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_locations_exact(device: str, dtype: torch.dtype) -> None:
    value, shapes, locations, weights = make_inputs(device=device)
    expected = ms_deform_attn(value.to(dtype), shapes, locations, weights.to(dtype))
    with torch.autocast(device, dtype):
        # As a linear layer and a softmax leave them: the one in autocast's format, the other in float32.
        assert torch.equal(ms_deform_attn(value.to(dtype), shapes, locations, weights), expected)
        assert torch.equal(ms_deform_attn(value, shapes, locations, weights), expected)
        assert ms_deform_attn(value.double(), shapes, locations, weights.double()).dtype == torch.float64
        leaf = value.clone().requires_grad_()
        ms_deform_attn(leaf, shapes, locations, weights).float().sum().backward()
    assert leaf.grad is not None and leaf.grad.dtype == torch.float32


@needs_library
def test_same_bits_with_any_number_of_threads() -> None:
    inputs = make_inputs(batch=1, queries=300, heads=8, channels=32)
    grad = torch.randn(1, 300, 256)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append([ms_deform_attn(*inputs), *gradients(ms_deform_attn, inputs, grad)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_without_a_graph_break(dynamic: bool, autocast: bool, device: str) -> None:
    def sizes_from_tensors(maps: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
        value = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1).unflatten(-1, (4, -1))
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            return ms_deform_attn(value, [(x.shape[2], x.shape[3]) for x in maps], locations, weights)

    torch._dynamo.reset()
    compiled = torch.compile(sizes_from_tensors, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shapes in (SHAPES, [(height + 1, width + 3) for height, width in SHAPES]):
        _, _, locations, weights = make_inputs(shapes=shapes, device=device)
        maps = [torch.randn(2, 24, *shape, device=device, requires_grad=True) for shape in shapes]
        output, expected = (f(maps, locations, weights) for f in (compiled, sizes_from_tensors))
        torch.testing.assert_close(output, expected)
        ours, theirs = (torch.autograd.grad(x.float().sum(), maps) for x in (output, expected))
        torch.testing.assert_close(ours, theirs)


@needs_library
def test_exports() -> None:
    class Module(torch.nn.Module):
        def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            return ms_deform_attn(value, SHAPES, locations, weights)

    value, _, locations, weights = make_inputs()
    exported = torch.export.export(Module(), (value, locations, weights))
    assert "mask2former.ms_deform_attn" in str(exported.graph)
    assert torch.equal(exported.module()(value, locations, weights), ms_deform_attn(value, SHAPES, locations, weights))


def test_runs_on_meta() -> None:
    value, shapes, locations, weights = make_inputs(device="meta")
    output = ms_deform_attn(value, shapes, locations, weights)
    assert output.device.type == "meta" and output.shape == (2, 11, 24)


@needs_library
def test_second_derivative_is_refused() -> None:
    value, shapes, locations, weights = make_inputs()
    weights.requires_grad_()
    output = ms_deform_attn(value, shapes, locations, weights)
    (first,) = torch.autograd.grad(output.square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        first.sum().backward()


V, X, W = make_inputs()[0], make_inputs()[2], make_inputs()[3]
BAD: list[tuple[tuple, type[Exception], str]] = [
    (([1], SHAPES, X, W), TypeError, "value has to be a tensor; found list"),
    ((V, SHAPES, None, W), TypeError, "sampling_locations has to be a tensor; found NoneType"),
    ((V.int(), SHAPES, X, W), TypeError, "value has to be of one of the dtypes float32.*found torch.int32"),
    ((V, SHAPES, X, W.double()), TypeError, "attention_weights has to be of the dtype of value"),
    ((V, SHAPES, X.to("meta"), W), ValueError, "sampling_locations has to be on the device of value, cpu; found meta"),
    ((V[0], SHAPES, X, W), ValueError, r"value has to be \[B, S, heads, C\]; found \(65, 4, 6\)"),
    ((V, torch.tensor(SHAPES), X, W), TypeError, "spatial_shapes has to be a sequence"),
    ((V, [], X, W), ValueError, "spatial_shapes has to hold at least one level"),
    ((V, [3, 4, 5], X, W), ValueError, "spatial_shapes: level 0 has to be .height, width.; found 3"),
    ((V, [(3.0, 4), (5, 7), (9, 2)], X, W), TypeError, "spatial_shapes: level 0 .* found float and int"),
    ((V, [(0, 4), (5, 7), (9, 2)], X, W), ValueError, "spatial_shapes: level 0 has to have at least one pixel"),
    ((V, [(3, 4), (5, 7), (9, 3)], X, W), ValueError, "spatial_shapes .* 65 positions of value; found 74 = 3 x 4 "),
    ((V, [(5, 13)], X, W), ValueError, "sampling_locations .* L = 1"),
    ((V, SHAPES, X[..., :1], W), ValueError, r"sampling_locations has to be \[B, Q, heads, L, P, 2\]"),
    ((V, SHAPES, X[:1], W), ValueError, "sampling_locations .* B = 2"),
    ((V, SHAPES, X[:, :, :3], W), ValueError, "sampling_locations .* heads = 4"),
    ((V, SHAPES, X[:, :, :, :, :0], W[..., :0]), ValueError, "sampling_locations has to hold at least one point"),
    ((V, SHAPES, X, W[:, :-1]), ValueError, "attention_weights has to be"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD, ids=[words[:40] for _, _, words in BAD])
def test_bad_arguments_are_named(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ms_deform_attn(*arguments)


def test_no_check_is_an_assertion() -> None:
    """``python -O`` leaves assertions out."""
    for path in Path(library.__file__).parent.glob("*.py"):
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)], path


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("flat", "change"),
    [([3, 4, 5, 7, 9, 3], {}), ([3, 4, 5, 7], {}), ([-3, -4, 5, 7, 9, 2], {}), (None, {0: 0}), (None, {2: 3})],
)
def test_operator_itself_refuses_what_would_read_foreign_memory(
    flat: list[int] | None, change: dict[int, int], device: str
) -> None:
    """Exported programs call it without the Python function's checks."""
    value, shapes, locations, weights = make_inputs(device=device)
    for axis, index in change.items():
        locations = locations.narrow(axis, index, 1)
    flat = [size for shape in shapes for size in shape] if flat is None else flat
    with pytest.raises(RuntimeError, match="ms_deform_attn: "):
        torch.ops.mask2former.ms_deform_attn(value, flat, locations, weights)
    grad = torch.zeros(2, 11, 24, device=device)
    with pytest.raises(RuntimeError, match="ms_deform_attn: "):
        torch.ops.mask2former.ms_deform_attn_backward(grad, value, flat, locations, weights)


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_loaded", set())
    monkeypatch.setattr(library, "_warned", set())


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("compiled", [False, True])
def test_without_library_it_says_the_cost_once(caplog: pytest.LogCaptureFixture, compiled: bool) -> None:
    torch._dynamo.reset()
    function = torch.compile(ms_deform_attn, fullgraph=True, backend="aot_eager") if compiled else ms_deform_attn
    inputs = make_inputs()
    with caplog.at_level(logging.WARNING, logger=library.__name__):
        for _ in range(3):
            torch.testing.assert_close(function(*inputs), ms_deform_attn_reference(*inputs))
    (message,) = [record.getMessage() for record in caplog.records if record.name == library.__name__]
    assert "cpu in plain PyTorch" in message and "pip install --no-build-isolation ." in message


def test_cpu_library_alone_leaves_cuda_to_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "_loaded", {"cpu"})
    monkeypatch.setattr(library, "_warned", set())
    with caplog.at_level(logging.WARNING, logger=library.__name__):
        assert [library.use_compiled(device) for device in ("cpu", "cuda", "cuda", "meta")] == [
            True,
            False,
            False,
            False,
        ]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "FORCE_CUDA=1" in message


@pytest.mark.parametrize("built", [True, False])
def test_report(built: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not built:
        monkeypatch.setattr(library, "_loaded", set())
    elif not library.is_loaded("cpu"):
        pytest.skip("the operator is not compiled")
    report.main()
    (cpu,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  cpu: ")]
    assert ("cpu: compiled operator" in cpu) == built
    assert ("MASK2FORMER_NO_EXT" in cpu) != built
