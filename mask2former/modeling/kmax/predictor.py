"""From slots and pixels to classes and masks, with mask logits normalised over the whole batch."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from mask2former.modeling.layers.batch_norm import BatchNorm
from mask2former.modeling.layers.conv_bn import ConvBN, channels_last
from mask2former.modeling.layers.precision import at_least_float32, without_autocast
from mask2former.structures import PIXEL_EMBEDDING, FactoredMasks, MaskPrediction

_VOID_PRIOR = 0.9  # probability of "no object" at the beginning of a training
_SCALE = 0.1  # of mask logits, at its beginning


class MaskNorm(BatchNorm):
    """Batch normalisation of all mask logits f . g together, as one factor on f; no product is computed.

    The shift would be one number for all slots, which softmax and argmax do not see. So it is left out, and is a dead
    parameter that has to be there for the published names.
    """

    def __init__(self) -> None:
        super().__init__(1, _SCALE)
        self.bias.requires_grad_(False)

    def forward(self, embed: Tensor, features: Tensor | None = None) -> Tensor:
        """Scale f.

        Args:
            embed: f, float32 [B, N, D].
            features: g, float32 [B, D, P], needed in training: the sums of f . g and of its square over slots and
                pixels are (sum of f) . (sum of g) and <f^T f, g g^T>.
        """
        if not self.training:
            return embed * self.folded()[0]
        assert features is not None and self.running_mean is not None and self.running_var is not None
        total = (embed.sum(1).double() * features.sum(2).double()).sum()
        gram = (embed.transpose(1, 2) @ embed).double() * (features @ features.transpose(1, 2)).double()
        count = embed.shape[0] * embed.shape[1] * features.shape[2]
        sums = torch.stack([total, gram.sum(), total.new_tensor(float(count))])
        if features.device.type != "cpu" and dist.is_available() and dist.is_initialized():
            sums = all_reduce(sums)
        mean, square, number = sums[0] / sums[2], sums[1] / sums[2], sums[2].detach()
        variance = (square - mean**2).clamp(min=0)
        with torch.no_grad():
            unbiased = variance * number / (number - 1).clamp(min=1)
            assert self.momentum is not None
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return embed * (self.weight * torch.rsqrt(variance + self.eps).to(embed.dtype))


class Predictor(nn.Module):
    """Classes and masks of slots at one stride.

    Args:
        pixel_channels: c of the pixels.
        slot_channels: channels of the slots' embeddings.
        mask_dim: D.
        num_classes: K, without "no object".
        head_channels: hidden channels of the pixels' embedding; None: ``slot_channels``.
        brick: kind of convolutions.
    """

    def __init__(
        self,
        pixel_channels: int,
        slot_channels: int,
        mask_dim: int,
        num_classes: int,
        *,
        head_channels: int | None = None,
        brick: type[ConvBN] = ConvBN,
    ) -> None:
        super().__init__()
        hidden = slot_channels if head_channels is None else head_channels
        self._pixel_space_head_conv0bnact = brick(
            pixel_channels, pixel_channels, kernel_size=5, depthwise=True, active=True
        )
        self._pixel_space_head_conv1bnact = brick(pixel_channels, hidden, active=True)
        self._pixel_space_head_last_convbn = ConvBN(hidden, mask_dim, bias=True, std=0.01)
        self._transformer_mask_head = brick(slot_channels, mask_dim, lines=True)
        self._transformer_class_head = ConvBN(
            slot_channels, num_classes + 1, bias=True, norm=None, std=0.01, lines=True
        )
        self._pixel_space_mask_batch_norm = MaskNorm()
        self.mask_dim = mask_dim
        self._no_object = math.log(num_classes * _VOID_PRIOR / (1 - _VOID_PRIOR))

    def masks(self, pixels: Tensor, slots: Tensor) -> FactoredMasks:
        """Predict masks, in float32: which slot has a pixel depends on the last bits of these products.

        Args:
            pixels: [B, c, h, w].
            slots: [B, C, N].
        """
        features = self._pixel_space_head_conv1bnact(self._pixel_space_head_conv0bnact(channels_last(pixels)))
        features = F.normalize(at_least_float32(self._pixel_space_head_last_convbn(features)), dim=1)
        embed = at_least_float32(self._transformer_mask_head(slots)).transpose(1, 2)
        with without_autocast(features):
            # By name, since a hook (Detectron2's PreciseBN has one) may replace the positional arguments by the first.
            embed = self._pixel_space_mask_batch_norm(embed, features=features.flatten(2) if self.training else None)
        return FactoredMasks(embed, features[:, :, None], activation="softmax", align_corners=True)

    def classes(self, slots: Tensor) -> Tensor:
        """Return class logits [B, N, K + 1] of slots [B, C, N]."""
        logits = self._transformer_class_head(slots).transpose(1, 2)
        return logits + F.pad(logits.new_full((1,), self._no_object), (logits.shape[-1] - 1, 0))

    def predict(self, masks: FactoredMasks, slots: Tensor) -> MaskPrediction:
        """Join masks with the classes of slots [B, C, N]; the masks' features are pixel embeddings too."""
        pixels = masks.mask_features[:, : self.mask_dim, 0]  # masks may have been given further factors
        return MaskPrediction(self.classes(slots), masks, extras={PIXEL_EMBEDDING: pixels})


def start_mask_logits(network: nn.Module, scale: float) -> None:
    """Set the deviation with which all mask logits of a network begin, in place."""
    for module in network.modules():
        if isinstance(module, MaskNorm):
            nn.init.constant_(module.weight, scale)
