"""Stochastic depth: leave out a residual branch for some images of a batch, in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Multiply each image's branch by 0 with probability ``p``, and else by ``1 / (1 - p)``, which keeps its mean.

    Equation 5 of Deep Networks with Stochastic Depth (arXiv 1603.09382), for each image by itself. At inference the
    branch stays as it is. It draws the numbers that ``torchvision.ops.StochasticDepth(p, "row")`` draws, and imports no
    torchvision, which takes four seconds and the compiler along.

    Args:
        p: 0 to 1, the probability of leaving the branch out.

    Raises:
        ValueError: ``p`` is no probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"the probability of leaving a branch out is {p}; it has to lie between 0 and 1")
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        """Return ``branch`` [B, ...], scaled by 0 or ``1 / (1 - p)`` for each of its B images."""
        if not self.training or self.p == 0:
            return branch
        keep = 1 - self.p
        kept = torch.empty(branch.shape[0], *[1] * (branch.dim() - 1), dtype=branch.dtype, device=branch.device)
        kept.bernoulli_(keep)
        return branch * (kept / keep if keep else kept)

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows of it."""
        return f"p={self.p}"
