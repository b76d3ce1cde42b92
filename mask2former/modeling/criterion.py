"""The training loss (MaskFormer, arXiv 2107.06278, section 3.3; Mask2Former, arXiv 2112.01527, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.losses.chunked_mask_loss import MatchedMaskLosses, MatchedTargets
from mask2former.modeling.losses.pixel_losses import MaskLoss
from mask2former.modeling.matcher import HungarianMatcher, Matching
from mask2former.structures import MaskPrediction, MaskTargets


class SetCriterion(nn.Module):
    """Classification, loss of the pixels and dice of matched (query, target) pairs, for every decoder layer.

    Args:
        num_classes: K, without "no object".
        matcher: assigns queries to targets.
        class_weight, mask_weight, dice_weight: weights of the terms.
        no_object_weight: weight of the class "no object" within the classification.
        mask_loss: the loss of a pixel, and which pixels are compared.
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
        mask_loss: MaskLoss,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weights = {"loss_ce": class_weight, "loss_mask": mask_weight, "loss_dice": dice_weight}
        self.mask_loss = mask_loss
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
        with torch.autocast(prediction.class_logits.device.type, enabled=False):
            class_loss = self._class_loss(torch.stack([x.class_logits for x in layers]).float(), targets, matchings)
            num_masks = _mean_over_ranks(sum(len(target) for target in targets), class_loss.device)
            mask_loss, dice_loss = self._mask_losses(layers, targets, matchings) / num_masks
        losses = {}
        for name, by_layer in (("loss_ce", class_loss), ("loss_mask", mask_loss), ("loss_dice", dice_loss)):
            for index, value in enumerate((self.weights[name] * by_layer).unbind()):
                losses[f"{name}_{index}" if index < len(aux) else name] = value
        return losses

    def _class_loss(self, logits: Tensor, targets: Sequence[MaskTargets], matchings: Sequence[Matching]) -> Tensor:
        """Cross-entropy over all queries, those without a target being to say "no object".

        Args:
            logits: [L, B, Q, K + 1] of L layers.

        Returns:
            [L].
        """
        wanted = torch.full(logits.shape[:-1], self.num_classes, device=logits.device)
        for image, (target, (queries, chosen)) in enumerate(zip(targets, matchings, strict=True)):
            wanted[:, image].scatter_(1, queries, target.classes[chosen])
        loss = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), self.empty_weight, reduction="none")
        return loss.view(len(logits), -1).sum(1) / self.empty_weight[wanted].flatten(1).sum(1)

    def _mask_losses(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> Tensor:
        """Loss of the pixels (their mean) and dice, summed over matched pairs, frames and images: [2, L]."""
        # Taken apart once: each indexing would give the backward pass another gradient of the size of the whole.
        embeds = torch.stack([x.masks.mask_embed for x in layers]).float().unbind(1)  # [L, Q, C] of each image
        features = layers[0].masks.mask_features.float()
        rows, matched, orders = [], [], []
        for embed, target, (queries, chosen) in zip(embeds, targets, matchings, strict=True):
            order = chosen.flatten().argsort(stable=True)  # mask after mask, and within it layer after layer
            of_pairs = embed.gather(1, queries[..., None].expand(-1, -1, embed.shape[-1])).flatten(0, 1)  # [L * M, C]
            rows.append(of_pairs.index_select(0, order))
            matched.append(_matched(target, chosen.flatten()[order], len(layers)))
            orders.append(order)
        total = features.new_zeros(2, len(layers))
        of_images = MatchedMaskLosses.apply(self.mask_loss, matched, features, *rows)
        for of_image, order in zip(of_images, orders, strict=True):
            of_pairs = of_image.view(2, len(order), features.shape[2]).sum(-1)
            total = total + of_pairs.index_select(1, order.argsort()).view(2, len(layers), -1).sum(-1)
        return total


def _matched(target: MaskTargets, chosen: Tensor, layers: int) -> MatchedTargets:
    """``chosen``: [R] int64, the target of each predicted mask."""
    frames = target.masks.shape[1]
    of_frame = (chosen[:, None] * frames + torch.arange(frames, device=chosen.device)).flatten()
    return MatchedTargets(target.masks.flatten(0, 1), of_frame, layers)


def _mean_over_ranks(count: int, device: torch.device) -> Tensor:
    """Targets of this step, averaged over all ranks and at least one, so that ranks weigh every mask alike."""
    mean = torch.full((), float(count), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean.clamp(min=1)
