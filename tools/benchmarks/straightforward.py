"""The training step as one would first write it: full masks of all queries and layers, plain PyTorch's operator.

It is for comparison only. Parameters and losses are ours; every prediction's masks are multiplied out at the size of
the mask features, resized for the attention, and sampled for the matching and the losses, one layer and image after
another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.cpu import make_plain
from mask2former.modeling.criterion import SetCriterion
from mask2former.modeling.layers.point_sampling import sample_points, uncertain_points
from mask2former.modeling.transformer_decoder import MultiScaleMaskedTransformerDecoder
from mask2former.structures import MaskTargets

Layer = tuple[Tensor, Tensor]
"""Class logits [B, Q, K + 1] and mask logits [B, Q, H, W] of a prediction."""


def make_straightforward(model: nn.Module) -> nn.Module:
    """Change a ``MaskFormer`` with point-sampled losses in place; run it within ``operator.without_library``."""
    make_plain(model)  # feed-forward networks of all positions at once, Detectron2's own ResNet
    # Another class for the same object keeps its parameters.
    model.sem_seg_head.predictor.__class__ = StraightforwardDecoder
    model.criterion = StraightforwardCriterion(model.criterion)
    return model


class StraightforwardDecoder(MultiScaleMaskedTransformerDecoder):
    def forward(  # type: ignore[override]
        self, multi_scale_features: list[Tensor], mask_features: Tensor, num_frames: int = 1
    ) -> list[Layer]:
        memory = [self._flatten(level, features, 1) for level, features in enumerate(multi_scale_features)]
        x = self.query_feat.weight.expand(len(mask_features), -1, -1)
        position = self.query_embed.weight[None]
        predictions = [self._full(x, mask_features)]
        for index, layer in enumerate(self.layers):
            level = index % len(memory)
            masks = predictions[-1][1].detach()
            small = F.interpolate(masks, multi_scale_features[level].shape[-2:], mode="bilinear", align_corners=False)
            blocked = small.sigmoid().flatten(2) < 0.5
            blocked &= ~blocked.all(-1, keepdim=True)
            heads = layer.cross_attention.attention.num_heads
            x = layer(x, position, *memory[level], ~blocked[:, None].repeat(1, heads, 1, 1))
            predictions.append(self._full(x, mask_features))
        return predictions

    def _full(self, x: Tensor, mask_features: Tensor) -> Layer:
        x = self.norm(x)
        return self.class_embed(x), torch.einsum("bqc,bchw->bqhw", self.mask_embed(x), mask_features)


class StraightforwardMatcher(nn.Module):
    def __init__(self, weights: dict[str, float], num_points: int) -> None:
        super().__init__()
        self.weights = weights
        self.num_points = num_points

    @torch.no_grad()
    def forward(self, layers: Sequence[Layer], targets: Sequence[MaskTargets]) -> list[list[np.ndarray]]:
        """Return queries and targets [2, M] by layer and image. All layers of an image share points, as in ours."""
        device = layers[0][1].device
        points = [torch.rand(self.num_points, 2, device=device) for _ in targets]
        return [
            [
                self._match(classes[i], masks[i], target, p)
                for i, (target, p) in enumerate(zip(targets, points, strict=True))
            ]
            for classes, masks in layers
        ]

    def _match(self, classes: Tensor, masks: Tensor, target: MaskTargets, points: Tensor) -> np.ndarray:
        truth = target.masks.float()
        with torch.autocast(masks.device.type, enabled=False):
            x = sample_points(masks.float()[:, None], points.expand(len(masks), -1, -1)).squeeze(1)
            t = sample_points(truth, points.expand(len(truth), -1, -1)).squeeze(1)
            inside = F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="none")
            outside = F.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none")
            of_pixels = (inside @ t.T + outside @ (1 - t).T) / len(points)
            p = x.sigmoid()
            dice = 1 - (2 * p @ t.T + 1) / (p.sum(-1)[:, None] + t.sum(-1) + 1)
            probability = classes.float().softmax(-1)[:, target.classes]
            cost = -self.weights["loss_ce"] * probability + self.weights["loss_mask"] * of_pixels
            return np.stack(linear_sum_assignment((cost + self.weights["loss_dice"] * dice).cpu().numpy()))


class StraightforwardCriterion(nn.Module):
    def __init__(self, ours: SetCriterion) -> None:
        super().__init__()
        names = [type(term).__name__ for term in ours.terms]
        if names != ["ClassLoss", "MaskAndDiceLoss"]:
            raise ValueError(
                "The straightforward step is the published decoder's, with the loss terms ClassLoss and "
                f"MaskAndDiceLoss; MODEL.MASK_FORMER.LOSS_TERMS asks for {names}."
            )
        classes, masks = ours.terms
        weights = {"loss_ce": classes.weight, "loss_mask": masks.mask_weight, "loss_dice": masks.dice_weight}
        self.weights, self.num_classes = weights, classes.num_classes
        self.points = masks.mask_loss
        self.matcher = StraightforwardMatcher(weights, masks.mask_loss.num_points)
        self.register_buffer("empty_weight", classes.empty_weight, persistent=False)

    def forward(self, layers: Sequence[Layer], targets: Sequence[MaskTargets]) -> dict[str, Tensor]:
        losses = {}
        for index, (layer, matching) in enumerate(zip(layers, self.matcher(layers, targets), strict=True)):
            for name, value in self._of_layer(*layer, targets, matching).items():
                losses[name if index == len(layers) - 1 else f"{name}_{index}"] = self.weights[name] * value
        return losses

    def _of_layer(
        self, classes: Tensor, masks: Tensor, targets: Sequence[MaskTargets], matching: list[np.ndarray]
    ) -> dict[str, Tensor]:
        wanted = torch.full(classes.shape[:2], self.num_classes, device=classes.device)
        rows, truths = [], []
        for i, (target, pairs) in enumerate(zip(targets, matching, strict=True)):
            queries, chosen = torch.from_numpy(pairs).to(classes.device)
            wanted[i, queries] = target.classes[chosen]
            rows.append(masks[i, queries])
            truths.append(target.masks[chosen].float())
        logits, truth = torch.cat(rows)[:, None].float(), torch.cat(truths)
        ratios = {
            "oversample_ratio": self.points.oversample_ratio,
            "importance_sample_ratio": self.points.importance_sample_ratio,
        }
        with torch.autocast(masks.device.type, enabled=False):
            points = uncertain_points(logits[:, 0].detach(), self.points.num_points, **ratios)
            x, t = sample_points(logits, points).squeeze(1), sample_points(truth, points).squeeze(1)
            p, count = x.sigmoid(), max(1, len(x))
            return {
                "loss_ce": F.cross_entropy(classes.float().transpose(1, 2), wanted, self.empty_weight),
                "loss_mask": F.binary_cross_entropy_with_logits(x, t, reduction="none").mean(1).sum() / count,
                "loss_dice": (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).sum() / count,
            }
