"""A residual block in training with frozen normalisation that keeps only what the backward pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor
from torch.autograd.function import once_differentiable

from mask2former.modeling.cpu.convolution import geometry_of, gradients
from mask2former.modeling.cpu.few_positions import has_few_positions, product_with_windows


class FusedBlock(torch.autograd.Function):
    """``relu(main path + shortcut)``, with batch normalisation folded into the convolutions.

    It keeps input, result and activations between two convolutions, but not the folded weights, which are quick to
    compute. The backward pass applies the ReLU's gradient in place. x must be in the ``channels_last`` layout. Not
    twice differentiable.
    """

    @staticmethod
    def forward(ctx: Any, block: BasicBlock | BottleneckBlock, x: Tensor, *weights: Tensor) -> Tensor:
        """Run the block on x [B, C, H, W]; ``weights`` are those of :func:`convolutions`, for autograd to see."""
        *first, last = main_path(block)
        kept = [x]
        for conv in first:
            kept.append(convolve(conv, kept[-1], "relu"))
        shortcut = x if block.shortcut is None else convolve(block.shortcut, x, "none")
        result = convolve_and_add(last, kept[-1], shortcut)
        ctx.block = block
        ctx.save_for_backward(*kept, result, *weights)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        main, convs = main_path(ctx.block), convolutions(ctx.block)
        saved = ctx.saved_tensors
        kept, result, weights = (
            saved[: len(main)],
            saved[len(main)],
            dict(zip(convs, saved[len(main) + 1 :], strict=True)),
        )
        _, needs_x, *needs_weights = ctx.needs_input_grad
        needs = dict(zip(convs, needs_weights, strict=True))
        of_weights: dict[Conv2d, Tensor | None] = {}

        def backward(conv: Conv2d, x: Tensor, grad: Tensor, needs_input: bool) -> Any:
            of_input, of_weights[conv] = _gradients(conv, weights[conv], x, grad, (needs_input, needs[conv]))
            return of_input

        # Everything in the dtype of the forward pass, whatever autocast would do now.
        with torch.autocast("cpu", enabled=False):
            grad = torch.ops.aten.threshold_backward(grad, result, 0).contiguous(memory_format=torch.channels_last)
            of_inner = grad
            for index, conv in reversed(list(enumerate(main))):
                of_inner = backward(conv, kept[index], of_inner, index > 0 or needs_x)
                if index > 0:
                    torch.ops.aten.threshold_backward.grad_input(of_inner, kept[index], 0, grad_input=of_inner)
            if (shortcut := ctx.block.shortcut) is not None:
                grad = backward(shortcut, kept[0], grad, needs_x)
            of_x = of_inner.add_(grad) if needs_x else None
        return None, of_x, *(of_weights[conv] for conv in convs)


def main_path(block: BasicBlock | BottleneckBlock) -> list[Conv2d]:
    return [block.conv1, block.conv2, block.conv3] if isinstance(block, BottleneckBlock) else [block.conv1, block.conv2]


def convolutions(block: BasicBlock | BottleneckBlock) -> list[Conv2d]:
    return main_path(block) + ([] if block.shortcut is None else [block.shortcut])


def folded(conv: Conv2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Fold the normalisation after a convolution into it; return weight and bias."""
    return _folded_weight(conv, conv.weight, dtype), _shift(conv).to(dtype)


def convolve(conv: Conv2d, x: Tensor, activation: str) -> Tensor:
    """Convolve, normalise and apply ``activation``, "relu" or "none", without gradients."""
    if has_few_positions(conv, x):
        result = _normalised_product(conv, x)
        return result.relu_() if activation == "relu" else result
    return torch.ops.mkldnn._convolution_pointwise(x, *folded(conv, x.dtype), *_geometry(conv), activation, [], "")


def convolve_and_add(conv: Conv2d, x: Tensor, other: Tensor) -> Tensor:
    """Compute ``relu(conv(x) + other)``, without gradients."""
    if has_few_positions(conv, x):
        return _normalised_product(conv, x).add_(other).relu_()
    pointwise = torch.ops.mkldnn._convolution_pointwise.binary
    return pointwise(x, other, *folded(conv, x.dtype), *_geometry(conv), "add", 1.0, "relu", [], "")


def convolve_and_add_(conv: Conv2d, x: Tensor, other: Tensor) -> Tensor:
    """Compute ``relu(conv(x) + other)`` into ``other``, without gradients."""
    if has_few_positions(conv, x):
        return other.add_(_normalised_product(conv, x)).relu_()
    pointwise = torch.ops.mkldnn._convolution_pointwise_.binary
    return pointwise(other, x, *folded(conv, x.dtype), *_geometry(conv), "add", 1.0, "relu", [], "")


def _geometry(conv: Conv2d) -> tuple[Sequence[int], Sequence[int], Sequence[int], int]:
    return conv.padding, conv.stride, conv.dilation, conv.groups


def _scale(conv: Conv2d) -> Tensor:
    """Compute the normalisation's factor on each output channel, [C, 1, 1, 1]."""
    norm = conv.norm
    return (norm.weight * (norm.running_var + norm.eps).rsqrt())[:, None, None, None]


def _shift(conv: Conv2d) -> Tensor:
    """Compute what the normalisation adds to each output channel, [C]."""
    norm = conv.norm
    return norm.bias - norm.running_mean * _scale(conv).flatten()


def _normalised_product(conv: Conv2d, x: Tensor) -> Tensor:
    product = product_with_windows(conv, x)
    return torch.addcmul(_shift(conv)[:, None, None], product, _scale(conv)[:, 0])


def _folded_weight(conv: Conv2d, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight * _scale(conv)).to(dtype, memory_format=torch.channels_last)


def _gradients(conv: Conv2d, own: Tensor, x: Tensor, grad: Tensor, needs: tuple[bool, bool]) -> tuple[Any, Any]:
    """Compute gradients of the input and of the convolution's ``own`` weight; None where not needed.

    x and grad are in the ``channels_last`` layout. ``own`` is the weight of the forward pass, which the module may have
    replaced since.
    """
    weight = _folded_weight(conv, own, x.dtype)
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1:
        of_x, of_weight = _products(x, weight, grad, needs)
    else:
        of_x, of_weight = gradients(grad, x, weight, geometry_of(conv), needs)
    return of_x, None if of_weight is None else (of_weight * _scale(conv)).to(own)


def _products(x: Tensor, weight: Tensor, grad: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of a 1x1 convolution as matrix products over the pixels of all images at once."""
    pixels, grads = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    rows = grads.flatten(0, 2)
    of_x = (rows @ weight.flatten(1)).view(pixels.shape).permute(0, 3, 1, 2) if needs[0] else None
    return of_x, (rows.T @ pixels.flatten(0, 2)).view(weight.shape) if needs[1] else None
