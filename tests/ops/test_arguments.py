"""Arguments that do not go together are named, with what was expected and what was found."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from operators import CLASSIC, DEVICES, FUSED, OPERATORS, SHAPES, Operator, flat, needs_library

from mask2former.ops import library, ms_deform_attn, ms_deform_attn_fused

V, _, X, W = CLASSIC.make()
_, _, R, D, G = FUSED.make()
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
BAD_FUSED: list[tuple[tuple, type[Exception], str]] = [
    ((V, SHAPES, None, D, G), TypeError, "reference_points has to be a tensor; found NoneType"),
    ((V, SHAPES, R.long(), D, G), TypeError, "reference_points has to be of one of the dtypes .* found torch.int64"),
    ((V, SHAPES, R, D.half(), G), TypeError, "sampling_offsets has to be of the dtype of value, torch.float32; found"),
    ((V, SHAPES, R, D, G.double()), TypeError, "attention_logits has to be of the dtype of value"),
    ((V, SHAPES, R.to("meta"), D, G), ValueError, "reference_points has to be on the device of value, cpu; found meta"),
    ((V, SHAPES, R[:, :, 0], D, G), ValueError, r"reference_points has to be broadcastable .*\(2, 11, 3, 2\).* found"),
    ((V, SHAPES, R[:, :5], D, G), ValueError, r"reference_points has to be broadcastable .* found \(2, 5, 3, 2\)"),
    ((V, SHAPES, R[..., :1], D, G), ValueError, r"reference_points has to be .* found \(2, 11, 3, 1\)"),
    ((V, SHAPES, R, D[..., 0], G), ValueError, r"sampling_offsets has to be \[B, Q, heads, L, P, 2\]"),
    ((V, SHAPES, R, D[:, :, :, :2], G), ValueError, "sampling_offsets .* L = 3"),
    ((V, SHAPES, R, D[..., :0, :], G[..., :0]), ValueError, "sampling_offsets has to hold at least one point"),
    ((V, SHAPES, R, D, G.flatten(-2)), ValueError, "attention_logits has to be .* like sampling_offsets; found"),
    ((V, torch.tensor(SHAPES), R, D, G), TypeError, "spatial_shapes has to be a sequence"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD, ids=[words[:40] for _, _, words in BAD])
def test_bad_arguments_are_named(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ms_deform_attn(*arguments)


@pytest.mark.parametrize(("arguments", "error", "words"), BAD_FUSED, ids=[words[:40] for _, _, words in BAD_FUSED])
def test_bad_arguments_of_the_fused_operator_are_named(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ms_deform_attn_fused(*arguments)


def test_no_check_is_an_assertion() -> None:
    """``python -O`` leaves assertions out."""
    for path in Path(library.__file__).parent.glob("*.py"):
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)], path


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("sizes", "change"),
    [([3, 4, 5, 7, 9, 3], {}), ([3, 4, 5, 7], {}), ([-3, -4, 5, 7, 9, 2], {}), (None, {0: 0}), (None, {2: 3})],
)
@pytest.mark.parametrize("op", OPERATORS)
def test_operator_itself_refuses_what_would_read_foreign_memory(
    op: Operator, sizes: list[int] | None, change: dict[int, int], device: str
) -> None:
    """Exported programs call it without the Python function's checks."""
    value, shapes, *others, locations, weights = op.make(device=device)
    for axis, index in change.items():
        locations = locations.narrow(axis, index, 1)
    arguments = (value, flat(shapes) if sizes is None else sizes, *others, locations, weights)
    with pytest.raises(RuntimeError, match=r"^ms_deform_attn: "):
        op.compiled()(*arguments)
    with pytest.raises(RuntimeError, match=r"^ms_deform_attn: "):
        op.compiled_backward()(torch.zeros(2, 11, 24, device=device), *arguments)


def test_messages_of_the_compiled_code_need_no_streams() -> None:
    """Streams crash or cut the message where a compiler links its own libstdc++ beside the process's: seen with gcc."""
    for path in Path(library.__file__).parent.glob("csrc/*"):
        assert not re.search(r"[io]stream|STD_TORCH_CHECK\(", path.read_text()), path


@needs_library
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(2, 11, 3, 1), (2, 5, 3, 2), (2, 11, 3), (3, 11, 3, 2)])
def test_operator_itself_refuses_reference_points_that_are_not_there(shape: tuple[int, ...], device: str) -> None:
    value, shapes, _, offsets, logits = FUSED.make(device=device)
    with pytest.raises(RuntimeError, match="ms_deform_attn: reference_points"):
        FUSED.compiled()(value, flat(shapes), torch.zeros(shape, device=device), offsets, logits)
