"""The sine position encoding with the arguments of the published module (DETR, arXiv 2005.12872, appendix A.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_EPS = 1e-6


class PositionEmbeddingSine(nn.Module):
    """Sine position encoding for users' own code; this package's decoders use ``SinePositionEncoding``, from sizes.

    Args:
        num_pos_feats: half the channels: this many for y, then as many for x.
        temperature: approximate ratio of the highest to the lowest frequency.
        normalize: scale positions to (0, ``scale``].
        scale: 2 pi when None.
    """

    def __init__(
        self, num_pos_feats: int = 64, temperature: float = 10000, normalize: bool = False, scale: float | None = None
    ) -> None:
        super().__init__()
        if scale is not None and not normalize:
            raise ValueError("normalize should be True if scale is passed")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = 2 * math.pi if scale is None else scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode the pixels of a feature map.

        Args:
            x: [B, C, H, W], of which only size and device are used.
            mask: [B, H, W] bool, True in padding, which is not counted.

        Returns:
            [B, 2 * num_pos_feats, H, W] float32.
        """
        if mask is None:
            mask = torch.zeros((x.shape[0], *x.shape[-2:]), dtype=torch.bool, device=x.device)
        parts = []
        for axis in (1, 2):  # y, x
            position = (~mask).cumsum(axis, dtype=torch.float32)
            if self.normalize:
                position = position / (position.narrow(axis, -1, 1) + _EPS) * self.scale
            parts.append(self._encode(position))
        return torch.cat(parts, dim=-1).permute(0, 3, 1, 2)

    def _encode(self, position: Tensor) -> Tensor:
        """Encode [B, H, W] as [B, H, W, num_pos_feats]: sine and cosine of each frequency in turn."""
        exponent = torch.arange(0, self.num_pos_feats, 2, dtype=torch.float32, device=position.device)
        angle = position[..., None] / self.temperature ** (exponent / self.num_pos_feats)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
