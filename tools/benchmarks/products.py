"""The floor of a network's time: its convolutions and matrix products alone."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Product:
    """A convolution, or a batch of matrix products, of dense tensors.

    Attributes:
        kind: "convolution" or "matrices".
        shapes: shapes of both factors; those of matrices are [B, M, K] and [B, K, N].
        options: options of a convolution: stride, padding, dilation, groups.
        dtype: dtype of both.
    """

    kind: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    options: tuple[Any, ...]
    dtype: torch.dtype

    def function(self, device: torch.device, layouts: Sequence[torch.memory_format]) -> Callable[[], object]:
        left, right = (torch.randn(shape, device=device).to(self.dtype) for shape in self.shapes)
        if self.kind == "matrices":
            out = torch.empty(left.shape[0], left.shape[1], right.shape[2], dtype=self.dtype, device=device)
            if len(left) == 1:
                return lambda: torch.mm(left[0], right[0], out=out[0])
            return lambda: torch.bmm(left, right, out=out)
        laid_out = [
            _convolution(*(x.contiguous(memory_format=layout) for x in (left, right)), self.options)
            for layout in layouts
        ]
        return min(laid_out, key=_quick_time) if len(laid_out) > 1 else laid_out[0]


def _convolution(x: Tensor, weight: Tensor, options: tuple[Any, ...]) -> Callable[[], object]:
    stride, padding, dilation, groups = options
    return lambda: torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)


@torch.no_grad()
def _quick_time(function: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


class Recorder(TorchDispatchMode):
    """Count the products of the code that runs inside; use it without gradients, but not in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = str(function).rsplit(".", 1)[0].split(".", 1)[-1]
        if name == "convolution":
            options = (tuple(args[3]), tuple(args[4]), tuple(args[5]), args[8])
            self._add("convolution", args[0], args[1], options)
        elif name == "_convolution_pointwise":
            self._add("convolution", args[0], args[1], _pointwise_options(args[3:7]))
        elif name == "_convolution_pointwise_":
            self._add("convolution", args[1], args[2], _pointwise_options(args[4:8]))
        elif name in ("mm", "bmm"):
            self._add("matrices", args[0], args[1])
        elif name in ("addmm", "baddbmm"):
            self._add("matrices", args[1], args[2])
        elif name.startswith("_scaled_dot_product"):
            query, key, value = (x.flatten(0, 1) for x in args[:3])
            self._add("matrices", query, key.transpose(1, 2))
            self._add("matrices", query.new_empty((len(query), query.shape[1], key.shape[1])), value)
        return function(*args, **(kwargs or {}))

    def _add(self, kind: str, left: Tensor, right: Tensor, options: tuple[Any, ...] = ()) -> None:
        if kind == "matrices" and left.dim() == 2:
            left, right = left[None], right[None]
        self.products[Product(kind, (tuple(left.shape), tuple(right.shape)), options, left.dtype)] += 1


def _pointwise_options(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    padding, stride, dilation, groups = arguments
    return tuple(stride), tuple(padding), tuple(dilation), groups


def multiply_adds(products: Counter[Product]) -> int:
    total = 0
    for product, count in products.items():
        (left, right) = product.shapes
        if product.kind == "matrices":
            total += count * left[0] * left[1] * left[2] * right[2]
            continue
        stride, padding, dilation, _ = product.options
        pixels = left[0]
        for axis in range(len(right) - 2):  # one or two
            extent = dilation[axis] * (right[2 + axis] - 1) + 1
            pixels *= (left[2 + axis] + 2 * padding[axis] - extent) // stride[axis] + 1
        total += count * pixels * math.prod(right)
    return total


def replay(
    products: Counter[Product], device: torch.device, layouts: Sequence[torch.memory_format] = LAYOUTS
) -> Callable[[], None]:
    """Return a function that runs each product as often as it was counted, convolutions in the fastest layout."""
    work = [(product.function(device, layouts), count) for product, count in products.items()]

    @torch.no_grad()
    def run() -> None:
        for function, count in work:
            for _ in range(count):
                function()

    return run
