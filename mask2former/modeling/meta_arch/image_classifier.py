"""A backbone that classifies whole images: what encoders learn first, before they learn to segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.meta_arch.further_parts import refuse_parts_from_config


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """Any registered backbone, the mean of one of its features, and a linear layer.

    Its checkpoint is a start for segmentation with the same backbone: ``MODEL.WEIGHTS``; names of the backbone's
    parameters are the same in all models.

    Args:
        backbone: [B, 3, H, W] -> features by name.
        feature: name of the one that is classified.
        num_classes: K.
        label_smoothing: share of the target that all classes have in equal parts.
        pixel_mean, pixel_std: of the image's channels.

    Raises:
        ValueError: the backbone has no such feature.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        backbone: Backbone,
        *,
        feature: str,
        num_classes: int,
        label_smoothing: float = 0.1,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        shapes = backbone.output_shape()
        if feature not in shapes:
            raise ValueError(f"MODEL.CLASSIFIER.FEATURE is {feature!r}; this backbone gives {', '.join(shapes)}.")
        self.backbone, self.feature, self.label_smoothing = backbone, feature, label_smoothing
        self.classifier = nn.Linear(shapes[feature].channels or 0, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        refuse_parts_from_config(cfg, cls.__name__)
        node, backbone = cfg.MODEL.CLASSIFIER, build_backbone(cfg)
        checkpoint_activations(cfg.MODEL.CHECKPOINT, {"backbone": backbone})
        return {
            "backbone": backbone,
            "feature": node.FEATURE,
            "num_classes": node.NUM_CLASSES,
            "label_smoothing": node.LABEL_SMOOTHING,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Train or infer.

        Args:
            batched_inputs: for each image ``image`` [3, H, W], all of one size; in training ``class_id`` in [0, K).

        Returns:
            In training, the loss ``loss_cls``. At inference, for each image ``class_scores``: probabilities [K].
        """
        images = torch.stack([one["image"].to(self.device) for one in batched_inputs])
        features = self.backbone((images - self.pixel_mean) / self.pixel_std)[self.feature]
        logits = self.classifier(features.mean((2, 3)))
        if not self.training:
            return [{"class_scores": scores} for scores in logits.float().softmax(-1)]
        wanted = torch.tensor([one["class_id"] for one in batched_inputs], device=self.device)
        return {"loss_cls": F.cross_entropy(logits.float(), wanted, label_smoothing=self.label_smoothing)}
