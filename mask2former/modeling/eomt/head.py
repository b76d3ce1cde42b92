"""The parts that EoMT adds to a ViT. Parameters have their published names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.structures import FactoredMasks, MaskPrediction, Masks


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Upscale(nn.Module):
    """Double the height and width of [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = ChannelNorm(channels, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv2(F.gelu(self.conv1(x))))


class EoMTHead(nn.Module):
    """Queries, and what predicts from them (EoMT, arXiv 2503.19108, section 3.2).

    Args:
        channels: C of the ViT.
        num_queries: Q.
        num_classes: K, without "no object".
        patch_size: of the ViT, 4 times a power of 2: mask features have stride 4.
    """

    def __init__(self, channels: int, *, num_queries: int, num_classes: int, patch_size: int) -> None:
        super().__init__()
        doublings = (patch_size // 4).bit_length() - 1
        if patch_size != 4 * 2**doublings:
            raise ValueError(f"EoMT needs MODEL.VIT.PATCH_SIZE 8, 16 or 32, found {patch_size}: masks have stride 4.")
        self.num_queries, self.num_classes = num_queries, num_classes
        self.q = nn.Embedding(num_queries, channels)
        self.class_head = nn.Linear(channels, num_classes + 1)
        layers = [nn.Linear(channels, channels) for _ in range(3)]
        self.mask_head = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.upscale = nn.Sequential(*(Upscale(channels) for _ in range(doublings)))

    def forward(self, queries: Tensor, patches: Tensor) -> MaskPrediction:
        """Predict from normalised queries [B, Q, C] and patches [B, C, h, w]; each call makes its own mask features."""
        features = self.upscale(patches)
        return MaskPrediction(self.class_head(queries), FactoredMasks(self.mask_head(queries), features[:, :, None]))


def may_look(masks: Masks, grid: tuple[int, int], tokens: int, keep: float) -> Tensor:
    """Compute where tokens may look: bool [B, 1, N, N] of N tokens, with Q queries first and h w patches last.

    A query looks at the patches where its mask logit, resized to the grid, is above 0, and at all other tokens. All
    others look everywhere.

    Args:
        masks: the last prediction.
        grid: (h, w).
        tokens: N.
        keep: probability with which a query of an image keeps its mask; the others look everywhere.
    """
    logits = masks.logits()[:, :, 0]  # [B, Q, H, W]
    inside = F.interpolate(logits, grid, mode="bilinear", align_corners=False).flatten(2) > 0
    if keep < 1:
        inside = inside | (torch.rand(inside.shape[:2], device=inside.device) > keep)[..., None]
    allowed = inside.new_ones(inside.shape[0], 1, tokens, tokens)
    allowed[:, 0, : inside.shape[1], tokens - inside.shape[2] :] = inside
    return allowed
