"""Batch normalisation of MaX-DeepLab and kMaX-DeepLab, and the start of the weights before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS, _MOMENTUM = 1e-3, 0.01
STD_OF_CUT_NORMAL = 0.8796256610342398  # of a normal distribution cut at two deviations, relative to it


class BatchNorm(nn.SyncBatchNorm):
    """Batch normalisation over all dimensions but the second, with statistics of all processes.

    PyTorch's synchronised layer takes GPUs alone; on a CPU each process uses its own images. One value for each channel
    has no variance (the pooled branch of a single image), where PyTorch stops: it is normalised as at inference.

    Args:
        channels: C.
        scale: start of the scale.
    """

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__(channels, _EPS, _MOMENTUM)
        if scale != 1.0:
            nn.init.constant_(self.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, ...]."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if x.device.type == "cpu":
            return super(nn.SyncBatchNorm, self).forward(x)
        return super().forward(x)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return what the layer multiplies by and then adds at inference, [C] each."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def truncated_normal_(weight: Tensor, std: float) -> Tensor:
    """Fill with normal numbers cut at two ``std``; theirs is then 0.88 ``std``, as published."""
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
