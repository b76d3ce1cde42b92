"""The contract between decoders, losses and post-processing.

Shapes are written with these letters throughout the package:

| letter | |
| --- | --- |
| B | images (or clips) in a batch |
| T | frames of a clip; an image is a clip with T = 1 |
| Q | queries |
| K | classes, without "no object" |
| C | channels |
| H, W | height and width in pixels |
| P | sampled points |
| N | target masks of one image |
| M | matched (query, target) pairs of a whole batch |
| L | predictions (decoder layers) that are supervised |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["sigmoid", "softmax"]
"""Function from mask logits to probabilities: each logit by itself, or over all queries at each pixel."""


PLACES = "place_logits"
"""Name of an extra output: logits of an object of each class at each place of a coarse grid, [B * T, K, H, W]."""

PIXEL_EMBEDDING = "pixel_embedding"
"""Name of an extra output: pixels' features that tell masks apart, [B, C, h, w]; without it, the masks' own are."""

SEMANTIC = "semantic_logits"
"""Name of an extra output: logits of an auxiliary semantic branch, [B, K or K + 1, h, w]."""

Matching = tuple[Tensor, Tensor]
"""Indices of one image's matched queries and of their targets, int64 [L, M'] each, M' = min(Q, N)."""


@dataclass
class MaskTargets:
    """Ground truth of one image (or clip).

    Attributes:
        classes: [N] int64, in [0, K).
        masks: [N, T, H, W] bool, over the padded input.
        void: [T, H, W] bool, pixels that no loss term should look at (crowds, unlabelled); None if not known.
        semantic: [T, H, W] int64, the class of each pixel, for terms that need it; None if not known.
    """

    classes: Tensor
    masks: Tensor
    void: Tensor | None = None
    semantic: Tensor | None = None

    def __post_init__(self) -> None:
        if self.classes.ndim != 1 or self.masks.ndim != 4 or len(self.classes) != len(self.masks):
            raise ValueError(
                f"MaskTargets needs classes [N] and masks [N, T, H, W]; "
                f"found {tuple(self.classes.shape)} and {tuple(self.masks.shape)}."
            )
        for name in ("void", "semantic"):
            value = getattr(self, name)
            if value is not None and value.shape != self.masks.shape[1:]:
                raise ValueError(
                    f"MaskTargets needs `{name}` [T, H, W] of the masks' size {tuple(self.masks.shape[1:])}; "
                    f"found {tuple(value.shape)}."
                )

    def __len__(self) -> int:
        return len(self.classes)


class Masks(Protocol):
    """Mask logits of a batch, in the form that is cheapest for its decoder.

    The logits are linear in ``features``, so bilinear interpolation commutes with :meth:`combine`. Losses and
    post-processing therefore sample or resize the features, and combine only what they need.

    Attributes:
        activation: how logits become probabilities.
        align_corners: the corner pixels of the features and of the image have the same centres.
    """

    activation: Activation
    align_corners: bool

    @property
    def features(self) -> Tensor:
        """Features that may be interpolated, [B, C, T, H, W]."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the features."""

    @property
    def num_queries(self) -> int:
        """Q."""

    def combine(self, image: int, sampled: Tensor, queries: Tensor | None = None) -> Tensor:
        """Compute logits from sampled features of one image.

        Args:
            image: index in the batch.
            sampled: [C, ...], sampled anywhere in ``features[image]``.
            queries: [n] int64, the queries wanted; None: all.

        Returns:
            [n, ...].
        """

    def logits(self, image: int | None = None, queries: Tensor | None = None, rows: slice | None = None) -> Tensor:
        """Compute logits at the features' own size.

        Args:
            image: the image wanted; None: all.
            queries: [n] int64, the queries wanted (needs ``image``); None: all.
            rows: rows of pixels wanted (needs ``image``); None: all.

        Returns:
            [B, Q, T, H, W], or [n, T, H, W] of one image.
        """


class _MaskLogits:
    """Common base of both forms of masks."""

    @property
    def features(self) -> Tensor:
        raise NotImplementedError

    @property
    def size(self) -> tuple[int, int]:
        return self.features.shape[-2], self.features.shape[-1]

    def combine(self, image: int, sampled: Tensor, queries: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def _all(self) -> Tensor:
        raise NotImplementedError

    def logits(self, image: int | None = None, queries: Tensor | None = None, rows: slice | None = None) -> Tensor:
        if image is None:
            if queries is not None or rows is not None:
                raise ValueError(
                    f"{type(self).__name__}.logits: `queries` and `rows` are those of one image, so `image` has to be "
                    "given."
                )
            return self._all()
        return self.combine(image, self.features[image] if rows is None else self.features[image, :, :, rows], queries)


@dataclass
class FactoredMasks(_MaskLogits):
    """Mask logits kept as the two factors of their product, multiplied only where they are needed.

    ``logits[b, q, t, y, x] = sum_c mask_embed[b, q, c] * mask_features[b, c, t, y, x]`` (Mask2Former, section 3.1).
    Resizing or sampling the features first costs C channels once instead of Q masks for each prediction. Predictions
    that share their features (the same tensor) are sampled together.

    Attributes:
        mask_embed: [B, Q, C].
        mask_features: [B, C, T, H, W].
        activation: how logits become probabilities.
        align_corners: the corner pixels of these features and of the image have the same centres.
    """

    mask_embed: Tensor
    mask_features: Tensor
    activation: Activation = "sigmoid"
    align_corners: bool = False

    @property
    def features(self) -> Tensor:
        return self.mask_features

    @property
    def num_queries(self) -> int:
        return self.mask_embed.shape[1]

    def combine(self, image: int, sampled: Tensor, queries: Tensor | None = None) -> Tensor:
        embed = self.mask_embed[image] if queries is None else self.mask_embed[image, queries]
        embed = embed.to(sampled.dtype)
        return embed @ sampled if sampled.ndim == 2 else torch.einsum("nc,c...->n...", embed, sampled)

    def _all(self) -> Tensor:
        embed = self.mask_embed.to(self.mask_features.dtype)
        return torch.einsum("bqc,bcthw->bqthw", embed, self.mask_features)


@dataclass
class DenseMasks(_MaskLogits):
    """Mask logits as they are, for decoders whose masks are not a product of two factors.

    Attributes:
        mask_logits: [B, Q, T, H, W].
        activation: how logits become probabilities.
        align_corners: the corner pixels of these logits and of the image have the same centres.
    """

    mask_logits: Tensor
    activation: Activation = "sigmoid"
    align_corners: bool = False

    @property
    def features(self) -> Tensor:
        return self.mask_logits

    @property
    def num_queries(self) -> int:
        return self.mask_logits.shape[1]

    def combine(self, image: int, sampled: Tensor, queries: Tensor | None = None) -> Tensor:
        return sampled if queries is None else sampled[queries]

    def _all(self) -> Tensor:
        return self.mask_logits


@dataclass
class MaskPrediction:
    """A set of Q (class distribution, mask) pairs for each image.

    Attributes:
        class_logits: [B, Q, K + 1]; the last column is "no object".
        masks: the masks' logits.
        aux: predictions of the earlier decoder layers, first layer first; supervised, not used at inference.
        extras: other outputs for a network's own loss terms and results, by name (semantic logits, pixel embeddings).
    """

    class_logits: Tensor
    masks: Masks
    aux: list[MaskPrediction] = field(default_factory=list)
    extras: dict[str, Tensor] = field(default_factory=dict)


def sharing_features(predictions: Sequence[MaskPrediction]) -> list[list[int]]:
    """Group the indices of predictions whose masks share their features, so that these are sampled once."""
    groups: dict[int, list[int]] = {}  # by identity: comparing values would read every pixel
    for index, prediction in enumerate(predictions):
        groups.setdefault(id(prediction.masks.features), []).append(index)
    return list(groups.values())


def require_sigmoid(predictions: Sequence[MaskPrediction], who: str) -> None:
    """Check that each mask has a probability of its own, as losses that compare single masks require.

    Raises:
        ValueError: a prediction's masks are a softmax over queries.
    """
    if any(prediction.masks.activation != "sigmoid" for prediction in predictions):
        raise ValueError(
            f"{who} compares each mask by itself (sigmoid), but this network's masks are a softmax over its queries. "
            "Name another one in MODEL.MASK_FORMER.CRITERION, MATCHER or LOSS_TERMS."
        )


def resize_frames(masks: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize [N, T, H, W] bilinearly to [N, T, *size]."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    alone = _by_plane(masks)
    images = masks.flatten(0, 1).unsqueeze(1) if alone else masks
    resized = F.interpolate(images, size=tuple(size), mode="bilinear", align_corners=align_corners)
    return resized.squeeze(1).unflatten(0, masks.shape[:2]) if alone else resized


def _by_plane(masks: Tensor) -> bool:
    """Tell whether to resize each [H, W] as an image of one channel.

    On a CPU, PyTorch copies what is to shrink to channels_last first, and that takes most of the time: 256 channels of
    two images of 128x128 to a half, a quarter and an eighth take 272 ms, and one by one 32 (AMD EPYC, one thread).
    """
    if masks.device.type != "cpu" or masks.requires_grad or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    return masks.is_contiguous()
