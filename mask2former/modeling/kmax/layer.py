"""A layer of the k-means mask transformer: each pixel goes to one slot, and each slot adds up its pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.kmax.predictor import Predictor
from mask2former.modeling.layers.batch_norm import BatchNorm
from mask2former.modeling.layers.conv_bn import ConvBN, channels_last
from mask2former.modeling.layers.drop_path import DropPath
from mask2former.modeling.layers.normed_attention import NormedAttention
from mask2former.modeling.layers.precision import at_least_float32, without_autocast
from mask2former.structures import FactoredMasks

ShapeMasks = Callable[[FactoredMasks, Tensor], FactoredMasks]
"""Function from the masks that slots [B, C, N] predict, and these slots, to the masks that count."""


def as_they_are(masks: FactoredMasks, slots: Tensor) -> FactoredMasks:
    """Leave the masks as they are."""
    return masks


class KMeansLayer(nn.Module):
    """Predict from the slots, move each by the sum of its pixels, let slots attend to each other, and transform them.

    Args:
        pixel_channels: of the pixel decoder's level.
        channels: C of slots; must be divisible by twice the heads.
        num_classes: K, without "no object".
        mask_dim: D of the masks' embeddings.
        feed_forward: hidden channels.
        num_heads: of the attention among slots.
        drop_path: probability that an image skips a branch in training, drawn for each of the three.
    """

    runs_whole = False  # its predictor is called after it, by the decoder, where a step needs predictions

    def __init__(
        self,
        pixel_channels: int,
        *,
        channels: int,
        num_classes: int,
        mask_dim: int,
        feed_forward: int,
        num_heads: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        std = channels**-0.5
        self.channels = channels
        self._query_conv1_bn_act = ConvBN(channels, channels, active=True, lines=True)
        self._pixel_conv1_bn_act = ConvBN(pixel_channels, channels, active=True)
        self._query_qkv_conv_bn = ConvBN(channels, 2 * channels, std=std, lines=True)
        self._pixel_v_conv_bn = ConvBN(channels, channels, std=std)
        self._query_self_attention = NormedAttention(channels, num_heads, F.gelu)
        self._query_conv3_bn = ConvBN(channels, channels, norm=0.0, lines=True)
        self._query_ffn_conv1_bn_act = ConvBN(channels, feed_forward, active=True, lines=True)
        self._query_ffn_conv2_bn = ConvBN(feed_forward, channels, norm=0.0, lines=True)
        self._predcitor = Predictor(channels, channels, mask_dim, num_classes)  # the published spelling
        self._kmeans_query_batch_norm_retrieved_value = BatchNorm(channels)
        self._kmeans_query_conv3_bn = ConvBN(channels, channels, norm=0.0, lines=True)
        self.drop_path = DropPath(drop_path)

    @property
    def predictor(self) -> Predictor:
        """Return what predicts from slots and pixels, under a readable name."""
        return self._predcitor

    def forward(
        self, pixels: Tensor, slots: Tensor, shape: ShapeMasks = as_they_are
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Update the slots.

        Args:
            pixels: a level of the pixel decoder, [B, c, h, w].
            slots: [B, C, N].
            shape: changes the masks that the slots predict.

        Returns:
            The new slots; masks of the old ones as their two factors (:class:`FactoredMasks`); and the embedding [B, C,
            N] that classifies them. Tensors, so that the layer can be recomputed.
        """
        pixels = self._pixel_conv1_bn_act(F.gelu(channels_last(pixels)))
        embedding = self._query_conv1_bn_act(slots)
        masks = shape(self._predcitor.masks(pixels, embedding), slots)

        sums = sum_of_pixels(masks, self._pixel_v_conv_bn(pixels)).to(slots.dtype)
        moved = self._kmeans_query_conv3_bn(self._kmeans_query_batch_norm_retrieved_value(sums))
        slots = slots + self.drop_path(moved)

        half = self.channels // 2
        query, key, value = self._query_qkv_conv_bn(embedding).split((half, half, self.channels), 1)
        attended = self._query_conv3_bn(self._query_self_attention(query, key, value))
        slots = F.gelu(slots + self.drop_path(attended))

        hidden = self._query_ffn_conv1_bn_act(slots)
        slots = F.gelu(slots + self.drop_path(self._query_ffn_conv2_bn(hidden)))
        return slots, masks.mask_embed, masks.mask_features, embedding


def sum_of_pixels(masks: FactoredMasks, values: Tensor) -> Tensor:
    """Add up the values of each slot's pixels, those where its mask logit is the greatest, in float32.

    Each pixel is added to one slot; a product with the assignment would cost N times as much. No gradient goes through
    the assignment.

    Args:
        masks: of one grid.
        values: [B, C, h, w] of the same grid.

    Returns:
        [B, C, N].
    """
    with without_autocast(values):
        owner = masks.logits().detach()[:, :, 0].argmax(1).flatten(1)  # [B, h w]
        values, count = at_least_float32(values.flatten(2)), masks.num_queries
        if torch.compiler.is_exporting():
            # ONNX Runtime adds to one slot from several threads at a time, and loses pixels (its ScatterND).
            return values @ (owner[:, :, None] == torch.arange(count, device=owner.device)).to(values.dtype)
        values, batch = values.transpose(1, 2), values.shape[0]
        place = owner + torch.arange(batch, device=owner.device)[:, None] * count
        total = values.new_zeros(batch * count, values.shape[-1])
        total = total.index_add(0, place.flatten(), values.flatten(0, 1))
        return total.unflatten(0, (batch, count)).transpose(1, 2)
