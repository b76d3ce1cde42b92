"""Comparison of masks, in the matching and in the loss: at which pixels, and by which pixel loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.layers.point_sampling import sample_masks, sample_points, uncertain_points
from mask2former.structures import MaskTargets, resize_frames

MASK_LOSS_REGISTRY = Registry("MASK_LOSS")
MASK_LOSS_REGISTRY.__doc__ = """
Losses of pixels by name: ``loss(cfg)`` is a :class:`MaskLoss`. ``MODEL.MASK_FORMER.MASK_LOSS`` names one.
"""
_SHORT_NAMES = {"points": "PointCrossEntropy", "focal": "DenseFocalLoss"}


def build_mask_loss(cfg: CfgNode) -> MaskLoss:
    """Build the loss that ``MODEL.MASK_FORMER.MASK_LOSS`` names: points, focal, or a registered class.

    Raises:
        ValueError: no such name.
    """
    name = cfg.MODEL.MASK_FORMER.MASK_LOSS
    name = _SHORT_NAMES.get(name, name)
    if name not in MASK_LOSS_REGISTRY:
        known = [*_SHORT_NAMES, *(registered for registered, _ in MASK_LOSS_REGISTRY)]
        raise ValueError(f"MODEL.MASK_FORMER.MASK_LOSS is {name!r}; choose one of {', '.join(known)}.")
    return MASK_LOSS_REGISTRY.get(name)(cfg)


class MaskLoss(ABC):
    """A pixel loss, and the S pixels or points at which masks are compared.

    The matcher and the loss term compute the dice loss at the same points.
    """

    @abstractmethod
    def matching_samples(self, features: Tensor, target: MaskTargets) -> tuple[Tensor, Tensor]:
        """Sample an image's features and targets at the points where the matcher compares all queries with all targets.

        Args:
            features: [C, T, H, W] float, the mask features.
            target: N targets.

        Returns:
            Features [C, S], and targets [N, S] float in [0, 1].
        """

    @abstractmethod
    def choose_points(self, logits: Tensor) -> Tensor | None:
        """Choose where the loss compares masks with their targets, without gradients.

        Args:
            logits: [R, H, W] float.

        Returns:
            The ``where`` of :meth:`gather`.
        """

    @abstractmethod
    def gather(self, logits: Tensor, masks: Tensor, rows: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gather both sides of matched pairs.

        Args:
            logits: [R, H, W] float.
            masks: [N * T, H', W'] bool.
            rows: [R] int64, the index in ``masks`` for each row of logits.
            where: the result of :meth:`choose_points` for these logits.

        Returns:
            Logits and targets, [R, S] each.
        """

    @abstractmethod
    def pairwise(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the mean loss of each row of logits [..., Q, S] with each row of truth [N, S]: [..., Q, N]."""

    @abstractmethod
    def pixel_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the loss of each pixel; the shape is that of both arguments."""


@MASK_LOSS_REGISTRY.register()
class PointCrossEntropy(MaskLoss):
    """Binary cross-entropy at sampled points (Mask2Former, arXiv 2112.01527, section 3.3).

    The matcher draws random points that all masks and all frames of an image share; the loss prefers points where the
    prediction is undecided.

    Args:
        num_points: points of a frame.
        oversample_ratio, importance_sample_ratio: see :func:`uncertain_points`.
    """

    @configurable
    def __init__(
        self, num_points: int, *, oversample_ratio: float = 3.0, importance_sample_ratio: float = 0.75
    ) -> None:
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.MASK_FORMER
        return {
            "num_points": node.TRAIN_NUM_POINTS,
            "oversample_ratio": node.OVERSAMPLE_RATIO,
            "importance_sample_ratio": node.IMPORTANCE_SAMPLE_RATIO,
        }

    def matching_samples(self, features: Tensor, target: MaskTargets) -> tuple[Tensor, Tensor]:
        frames = features.shape[1]
        points = torch.rand(self.num_points, 2, device=features.device)
        by_frame = sample_points(features.transpose(0, 1), points.expand(frames, -1, -1))  # [T, C, P]
        truth = sample_masks(target.masks.flatten(0, 1), points).unflatten(0, (-1, frames))  # [N, T, P]
        return by_frame.transpose(0, 1).flatten(1), truth.flatten(1)

    def choose_points(self, logits: Tensor) -> Tensor:
        return uncertain_points(
            logits.detach(),
            self.num_points,
            oversample_ratio=self.oversample_ratio,
            importance_sample_ratio=self.importance_sample_ratio,
        )

    def gather(self, logits: Tensor, masks: Tensor, rows: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
        assert where is not None
        return sample_points(logits[:, None], where).squeeze(1), sample_masks(masks, where, rows)

    def pairwise(self, logits: Tensor, truth: Tensor) -> Tensor:
        # -t log s(x) - (1 - t) log(1 - s(x)) = softplus(x) - t x, so one matrix product suffices.
        return (F.softplus(logits).sum(-1, keepdim=True) - logits @ truth.T) / logits.shape[-1]

    def pixel_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")


@MASK_LOSS_REGISTRY.register()
class DenseFocalLoss(MaskLoss):
    """Sigmoid focal loss over whole masks (MaskFormer, arXiv 2107.06278, section 3.3; RetinaNet, arXiv 1708.02002).

    A pixel inside the target costs ``alpha (1 - p) ** gamma * -log p``, one outside ``(1 - alpha) p ** gamma *
    -log(1 - p)``. The matcher compares at the size of the mask features, to which targets are resized by nearest
    neighbour; the loss compares at the size of the targets.
    """

    @configurable
    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.alpha = alpha
        self.gamma = gamma

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {}

    def matching_samples(self, features: Tensor, target: MaskTargets) -> tuple[Tensor, Tensor]:
        small = F.interpolate(target.masks.byte(), size=features.shape[-2:], mode="nearest")
        return features.flatten(1), small.flatten(1).to(features.dtype)

    def choose_points(self, logits: Tensor) -> None:
        """Return None: all pixels are compared."""

    def gather(self, logits: Tensor, masks: Tensor, rows: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
        resized = resize_frames(logits[:, None], masks.shape[-2:])
        return resized.flatten(1), masks.flatten(1)[rows].to(logits.dtype)

    def pairwise(self, logits: Tensor, truth: Tensor) -> Tensor:
        inside, outside = self._costs(logits)
        return ((inside - outside) @ truth.T + outside.sum(-1, keepdim=True)) / logits.shape[-1]

    def pixel_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        inside, outside = self._costs(logits)
        return inside * truth + outside * (1 - truth)

    def _costs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the cost of each pixel, once as inside and once as outside the target."""
        inside = self.alpha * logits.neg().sigmoid() ** self.gamma * F.softplus(-logits)
        outside = (1 - self.alpha) * logits.sigmoid() ** self.gamma * F.softplus(logits)
        return inside, outside
