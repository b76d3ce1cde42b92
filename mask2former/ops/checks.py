"""Checks of the operators' arguments, and their dtypes under autocast."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of computation: float32 for half formats, which are too coarse for locations and sums."""
    return torch.promote_types(dtype, torch.float32)


def autocast(tensor: Tensor) -> Tensor:
    """Cast to autocast's dtype where it is on, except float64, as PyTorch's own autocast rules do."""
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device) or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def check_same_dtype(value: Tensor, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != value.dtype:
            raise TypeError(f"{name} has to be of the dtype of value, {value.dtype}; found {tensor.dtype}.")


def check_tensors(**tensors: Tensor) -> None:
    device = tensors["value"].device if isinstance(tensors["value"], Tensor) else None
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} has to be a tensor; found {type(tensor).__name__}.")
        if tensor.dtype not in DTYPES:
            names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise TypeError(f"{name} has to be of one of the dtypes {names}; found {tensor.dtype}.")
        if tensor.device != device:
            raise ValueError(f"{name} has to be on the device of value, {device}; found {tensor.device}.")


def checked_shapes(spatial_shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
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


def check_sizes(value: Tensor, shapes: list[tuple[int, int]], **samples: Tensor) -> None:
    """Check that shapes fit; ``samples`` are the [B, Q, heads, L, P, 2] argument, then the [B, Q, heads, L, P] one."""
    (places, locations), (shares, weights) = samples.items()
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
        raise ValueError(f"{places} has to be [B, Q, heads, L, P, 2]; found {tuple(locations.shape)}.")
    if locations.shape[4] < 1:
        raise ValueError(f"{places} has to hold at least one point; found {tuple(locations.shape)}.")
    for name, axis, wanted in (("B", 0, batch), ("heads", 2, heads), ("L", 3, len(shapes))):
        if locations.shape[axis] != wanted:
            raise ValueError(
                f"{places} [B, Q, heads, L, P, 2] has to have {name} = {wanted}, like value and "
                f"spatial_shapes; found {tuple(locations.shape)}."
            )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(
            f"{shares} has to be [B, Q, heads, L, P] = {tuple(locations.shape[:-1])}, like "
            f"{places}; found {tuple(weights.shape)}."
        )


def check_reference_points(value: Tensor, shapes: list[tuple[int, int]], references: Tensor, queries: int) -> None:
    wanted = (value.shape[0], queries, len(shapes), 2)
    fits = references.ndim == 4 and references.shape[3] == 2
    if not (fits and all(size in (1, full) for size, full in zip(references.shape, wanted, strict=True))):
        raise ValueError(
            f"reference_points has to be broadcastable to [B, Q, L, 2] = {wanted}, like the other arguments, with both "
            f"coordinates; found {tuple(references.shape)}."
        )
