"""The training loss (Mask2Former, arXiv 2112.01527, sections 3.1 and 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.layers.point_sampling import sample_masks, sample_points, uncertain_points
from mask2former.modeling.matcher import HungarianMatcher, Matching
from mask2former.structures import LazyMasks, MaskPrediction, MaskTargets


class SetCriterion(nn.Module):
    """Classification, binary cross-entropy and dice of matched (query, target) pairs, for every decoder layer.

    Args:
        num_classes: K, without "no object".
        matcher: assigns queries to targets.
        class_weight, mask_weight, dice_weight: weights of the terms.
        no_object_weight: weight of the class "no object" within the classification.
        num_points: P of each mask at which its loss is computed.
        oversample_ratio, importance_sample_ratio: see :func:`uncertain_points`.
        deep_supervision: supervise the earlier layers too.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        matcher: HungarianMatcher,
        class_weight: float,
        mask_weight: float,
        dice_weight: float,
        no_object_weight: float,
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weights = {"loss_ce": class_weight, "loss_mask": mask_weight, "loss_dice": dice_weight}
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        self.deep_supervision = deep_supervision
        empty_weight = torch.ones(num_classes + 1)
        empty_weight[-1] = no_object_weight
        self.register_buffer("empty_weight", empty_weight, persistent=False)

    def forward(self, prediction: MaskPrediction, targets: Sequence[MaskTargets]) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            prediction: of the last layer, with those of the earlier ones in ``aux``.
            targets: one for each image.

        Returns:
            Scalars ``loss_ce``, ``loss_mask``, ``loss_dice`` and, for the i-th earlier layer, the same with ``_i``.
        """
        aux = prediction.aux if self.deep_supervision else []
        layers = [*aux, prediction]
        matchings = self.matcher(layers, targets)
        num_masks = _mean_over_ranks(sum(len(target) for target in targets), prediction.class_logits.device)
        device = prediction.class_logits.device
        features = prediction.masks.mask_features.float()  # shared by all layers, so widened once
        losses = {}
        for index, (layer, matching) in enumerate(zip(layers, _to_device(matchings, device), strict=True)):
            suffix = f"_{index}" if index < len(aux) else ""
            parts = {"loss_ce": self._class_loss(layer.class_logits.float(), targets, matching)}
            of_layer = LazyMasks(layer.masks.mask_embed.float(), features)
            parts["loss_mask"], parts["loss_dice"] = self._mask_losses(of_layer, targets, matching, num_masks)
            losses.update({name + suffix: self.weights[name] * value for name, value in parts.items()})
        return losses

    def _class_loss(self, logits: Tensor, targets: Sequence[MaskTargets], matching: Matching) -> Tensor:
        """Cross-entropy over all queries; those without a target are to say "no object"."""
        wanted = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        for image, (queries, chosen) in enumerate(matching):
            wanted[image, queries] = targets[image].classes[chosen]
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), self.empty_weight)

    def _mask_losses(
        self, masks: LazyMasks, targets: Sequence[MaskTargets], matching: Matching, num_masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy and dice at points, summed over matched pairs and frames, divided by ``num_masks``."""
        with torch.autocast(masks.mask_embed.device.type, enabled=False):
            logits = [masks.logits(image, queries).flatten(0, 1) for image, (queries, _) in enumerate(matching)]
            rows = torch.cat(logits)  # [R, H, W], a row for each matched pair and frame
            points = uncertain_points(
                rows.detach(),
                self.num_points,
                oversample_ratio=self.oversample_ratio,
                importance_sample_ratio=self.importance_sample_ratio,
            )
            sampled = sample_points(rows[:, None], points).squeeze(1)  # [R, P]
        of_image = points.split([len(part) for part in logits])
        truth = torch.cat(
            [
                sample_masks(target.masks[chosen].flatten(0, 1), part)
                for target, (_, chosen), part in zip(targets, matching, of_image, strict=True)
            ]
        )
        cross_entropy = F.binary_cross_entropy_with_logits(sampled, truth, reduction="none").mean(1).sum()
        mask = sampled.sigmoid()
        dice = 1 - (2 * (mask * truth).sum(1) + 1) / (mask.sum(1) + truth.sum(1) + 1)
        return cross_entropy / num_masks, dice.sum() / num_masks


def _to_device(matchings: list[Matching], device: torch.device) -> list[Matching]:
    """All indices of all layers and images in one copy; one by one each would wait for the device."""
    pairs = [pair for matching in matchings for pair in matching]
    flat = torch.cat([index for pair in pairs for index in pair]).to(device)
    parts = iter(flat.split([len(index) for pair in pairs for index in pair]))
    return [[(next(parts), next(parts)) for _ in matching] for matching in matchings]


def _mean_over_ranks(count: int, device: torch.device) -> Tensor:
    """Targets of this step, averaged over all ranks and at least one, so that ranks weigh every mask alike."""
    mean = torch.full((), float(count), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean.clamp(min=1)
