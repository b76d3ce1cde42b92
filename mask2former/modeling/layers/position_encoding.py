"""Sine position encoding of pixels and frames (DETR, arXiv 2005.12872, appendix A.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_EPS = 1e-6  # as in the published system, so that encodings are equal to the last digit


class SinePositionEncoding(nn.Module):
    """Encoding of (y, x), each normalised to (0, 2 pi], by sines and cosines of falling frequency.

    Args:
        channels: C of the encoding, divisible by 4: half of it for y, half for x.
        temperature: approximate ratio of the highest to the lowest frequency.
        with_time: add an encoding of the frame. It is not zero for a single frame, so images leave it off.
    """

    def __init__(self, channels: int, *, temperature: float = 10000.0, with_time: bool = False) -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(f"SinePositionEncoding needs a number of channels divisible by 4, found {channels}.")
        self.channels = channels
        self.temperature = temperature
        self.with_time = with_time

    def forward(
        self,
        size: tuple[int, int],
        num_frames: int = 1,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Encode a grid of pixels: [C, T, H, W], computed in float32.

        Args:
            size: (H, W).
            num_frames: T.
            device: device of the result.
            dtype: dtype of the result; that of the weights, so that a model in a half format can add them.
        """
        height, width = size
        y = self._encode(height, self.channels // 2, device)
        x = self._encode(width, self.channels // 2, device)
        grid = torch.cat(
            [y[:, None, :, None].expand(-1, -1, -1, width), x[:, None, None, :].expand(-1, -1, height, -1)]
        )
        if self.with_time:
            grid = grid + self._encode(num_frames, self.channels, device)[:, :, None, None]
        return grid.expand(-1, num_frames, -1, -1).to(dtype)

    def _encode(self, length: int, channels: int, device: torch.device | None) -> Tensor:
        """Compute [channels, length]: sine and cosine of each frequency in turn, at positions 1 to ``length``."""
        position = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + _EPS) * (2 * math.pi)
        exponent = torch.arange(0, channels, 2, dtype=torch.float32, device=device) / channels
        angle = position / self.temperature ** exponent[:, None]
        return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1)
