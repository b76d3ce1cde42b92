"""Multi-scale deformable attention: the one function that models call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mask2former.ops.library import use_compiled
from mask2former.ops.reference import ms_deform_attn_reference

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum values at a few places of each level, bilinearly interpolated, with the given weights.

    Equation 3 of Deformable DETR (arXiv 2010.04159): for each query and head, the sum over levels l and points p of
    ``attention_weights[l, p] * value_l(sampling_locations[l, p])``. Projections and softmax are the caller's.

    Locations run from 0 to 1 over a level's width and height, with pixel centres at ``(i + 0.5) / size``; pixels
    outside are zero, as in ``grid_sample(align_corners=False)``. A location that is not finite adds nothing.

    Half formats are summed in float32. Locations are always float32 (float64 where the values are): bfloat16 tells
    only some 256 places apart. Under autocast, float32 values and weights are brought to autocast's dtype and locations
    stay as they are.

    Runs the compiled operator where there is one for the device (``python -m mask2former.ops`` tells), else
    :func:`ms_deform_attn_reference`. Gradients are those of all three tensors, once.

    Args:
        value: [B, S, heads, C] float32, float64, float16 or bfloat16; the S positions level after level, row by row.
        spatial_shapes: (H, W) in pixels of each of L levels, Python integers; their products add up to S.
        sampling_locations: [B, Q, heads, L, P, 2] (x, y); a half format is widened.
        attention_weights: [B, Q, heads, L, P], of the dtype of ``value``.

    Returns:
        [B, Q, heads * C], of the dtype of ``value`` (under autocast: of autocast's).

    Raises:
        TypeError: an argument is no tensor of floating point numbers, or dtypes differ.
        ValueError: shapes or devices do not go together, or levels do not add up to S.
    """
    _check_tensors(value=value, sampling_locations=sampling_locations, attention_weights=attention_weights)
    shapes = _checked_shapes(spatial_shapes)
    _check_sizes(value, shapes, sampling_locations, attention_weights)

    value, attention_weights = _autocast(value), _autocast(attention_weights)
    if attention_weights.dtype != value.dtype:
        raise TypeError(
            f"attention_weights has to be of the dtype of value, {value.dtype}; found {attention_weights.dtype}."
        )
    sampling_locations = sampling_locations.to(torch.promote_types(value.dtype, torch.float32))
    if not use_compiled(value.device.type):
        return ms_deform_attn_reference(value, shapes, sampling_locations, attention_weights)
    flat = [size for shape in shapes for size in shape]
    return torch.ops.mask2former.ms_deform_attn(value, flat, sampling_locations, attention_weights)


def _autocast(tensor: Tensor) -> Tensor:
    """As PyTorch's own autocast rules do it: float64 is left alone."""
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device) or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _check_tensors(**tensors: Tensor) -> None:
    device = tensors["value"].device if isinstance(tensors["value"], Tensor) else None
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} has to be a tensor; found {type(tensor).__name__}.")
        if tensor.dtype not in DTYPES:
            names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise TypeError(f"{name} has to be of one of the dtypes {names}; found {tensor.dtype}.")
        if tensor.device != device:
            raise ValueError(f"{name} has to be on the device of value, {device}; found {tensor.device}.")


def _checked_shapes(spatial_shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    if isinstance(spatial_shapes, Tensor):
        raise TypeError(
            "spatial_shapes has to be a sequence of (height, width) of Python integers, so that reading it does not "
            "wait for the device; found a tensor. Use the shapes of the feature maps, or spatial_shapes.tolist()."
        )
    shapes = []
    for level, shape in enumerate(spatial_shapes):
        if not isinstance(shape, Sequence) or len(shape) != 2:
            raise ValueError(f"spatial_shapes: level {level} has to be (height, width); found {shape!r}.")
        height, width = shape
        if not (isinstance(height, (int, torch.SymInt)) and isinstance(width, (int, torch.SymInt))):
            raise TypeError(
                f"spatial_shapes: level {level} has to be two Python integers; "
                f"found {type(height).__name__} and {type(width).__name__}."
            )
        if height < 1 or width < 1:
            raise ValueError(f"spatial_shapes: level {level} has to have at least one pixel; found {height} x {width}.")
        shapes.append((height, width))
    if not shapes:
        raise ValueError("spatial_shapes has to hold at least one level; found none.")
    return shapes


def _check_sizes(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> None:
    if value.ndim != 4:
        raise ValueError(f"value has to be [B, S, heads, C]; found {tuple(value.shape)}.")
    batch, positions, heads, _ = value.shape
    total = sum(height * width for height, width in shapes)
    if total != positions:
        raise ValueError(
            f"spatial_shapes has to add up to the {positions} positions of value; "
            f"found {total} = {' + '.join(f'{height} x {width}' for height, width in shapes)}."
        )
    if locations.ndim != 6 or locations.shape[-1] != 2:
        raise ValueError(f"sampling_locations has to be [B, Q, heads, L, P, 2]; found {tuple(locations.shape)}.")
    if locations.shape[4] < 1:
        raise ValueError(f"sampling_locations has to hold at least one point; found {tuple(locations.shape)}.")
    for name, axis, wanted in (("B", 0, batch), ("heads", 2, heads), ("L", 3, len(shapes))):
        if locations.shape[axis] != wanted:
            raise ValueError(
                f"sampling_locations [B, Q, heads, L, P, 2] has to have {name} = {wanted}, like value and "
                f"spatial_shapes; found {tuple(locations.shape)}."
            )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(
            f"attention_weights has to be [B, Q, heads, L, P] = {tuple(locations.shape[:-1])}, like "
            f"sampling_locations; found {tuple(weights.shape)}."
        )
