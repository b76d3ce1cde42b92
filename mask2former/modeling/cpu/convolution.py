"""Convolutions in training whose weights' gradients are computed in the memory layout in which oneDNN is faster."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import Conv2d
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from mask2former.processor import has_avx2_alone

# Numbers of one image (channels times positions) up to which the gradient of the weights is as fast in channels_last.
LARGEST_IMAGE = 2**18
Geometry = tuple[Any, Any, Any, bool, list[int], int]  # stride, padding, dilation, not transposed, none, groups


class LaidOutConv2d(Conv2d):
    """Detectron2's convolution, in training by :class:`Convolution` where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._gains(x):
            return super().forward(x)
        x = Convolution.apply(x, self.weight, self.bias, geometry_of(self))
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)

    def _gains(self, x: Tensor) -> bool:
        if torch.jit.is_tracing() or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return False
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return False
        # A weight that is computed, as by spectral normalisation, may change with each reading.
        if x.dim() != 4 or isinstance(self.padding, str) or is_parametrized(self):
            return False
        return self.weight.requires_grad and prefers_plain_layout(x, self.weight)


class Convolution(torch.autograd.Function):
    """A convolution whose backward pass chooses a layout by :func:`gradients`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        """Convolve x [B, C, H, W] with weight [C', C, h, w] and add bias [C']."""
        stride, padding, dilation, _, _, groups = geometry
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):
            of_x, of_weight = gradients(grad, x, weight, ctx.geometry, (needs_x, needs_weight))
        return of_x, of_weight, grad.sum((0, 2, 3)) if needs_bias else None, None


def geometry_of(conv: Conv2d) -> Geometry:
    """Return what a convolution's backward pass has to know of it."""
    return conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups


def prefers_plain_layout(x: Tensor, weight: Tensor) -> bool:
    """Tell whether the gradient of ``weight`` is faster in PyTorch's plain layout, when x [B, C, H, W] is not in it.

    Large images in channels_last make oneDNN slow on processors with AVX2 alone: 3x3 with 256 channels at 128x128 takes
    2.0 s there and 0.35 in the plain layout (AMD EPYC, one thread), the forward pass 0.3 in both. 1x1 are no slower.
    """
    larger = weight.shape[-1] > 1 and x.shape[1:].numel() > LARGEST_IMAGE
    return larger and has_avx2_alone() and not x.is_contiguous()


def gradients(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of a convolution's input and weight.

    Args:
        grad: gradient of its result, [B, C', H', W'].
        x: its input, [B, C, H, W].
        weight: [C', C / groups, h, w].
        geometry: see :func:`geometry_of`.
        needs: whether x, and whether the weight, needs one.

    Returns:
        Gradients shaped as x and as ``weight``; None for one that is not needed.
    """

    def of(x: Tensor, weight: Tensor, needs_x: bool, needs_weight: bool) -> tuple[Tensor | None, Tensor | None]:
        backward = torch.ops.aten.convolution_backward
        of_x, of_weight, _ = backward(grad, x, weight, None, *geometry, [needs_x, needs_weight, False])
        return of_x, of_weight

    if not (needs[1] and prefers_plain_layout(x, weight)):
        return of(x, weight, *needs)
    of_x = of(x, weight, True, False)[0] if needs[0] else None
    return of_x, of(x.contiguous(), weight.contiguous(), False, True)[1]
