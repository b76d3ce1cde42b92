"""Padding of timm's "same" convolutions as constants, which tracing with free sizes needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F


class _FixedPadding(nn.Module):
    """A "same" convolution on sides that its stride divides: the padding then does not depend on them."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        sides = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        (top, bottom), (left, right) = (_halves(max((k - 1) * d + 1 - s, 0)) for k, s, d in sides)
        self.pad = (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return F.conv2d(F.pad(x, self.pad), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _halves(total: int) -> tuple[int, int]:
    return total // 2, total - total // 2


@contextmanager
def static_padding(model: nn.Module, divisibility: int) -> Iterator[None]:
    """Replace timm's convolutions whose padding depends on the size, inside the ``with`` block.

    TensorFlow's "same" padding of a side n is max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0): with n a symbol, tracing
    a small EfficientNet took more than two minutes to simplify it. Where the stride s divides n it is
    max((k - 1) d + 1 - s, 0). It does: sides of padded images are multiples of 32, and strides divide 32.

    Args:
        model: changed inside the block alone.
        divisibility: sides of padded images are multiples of this, plus the model's ``size_offset``; unless 32 divides
            it and the offset is 0, nothing is replaced.
    """
    found: list[str] = []
    if divisibility % 32 == 0 and not getattr(model, "size_offset", 0):
        found = [name for name, one in model.named_modules() if type(one).__name__ == "Conv2dSame"]
    before = {}
    try:
        for name in found:
            parent, _, own = name.rpartition(".")
            before[name] = model.get_submodule(name)
            setattr(model.get_submodule(parent), own, _FixedPadding(before[name]))  # type: ignore[arg-type]
        yield
    finally:
        for name, conv in before.items():
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, conv)
