"""Test-time augmentation: the network sees an image at several sizes, and mirrored, and its answers are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from torch import Tensor, nn

from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.modeling.meta_arch import PredictsMasks, unwrapped
from mask2former.modeling.postprocess import ResizedMasks, object_results, semantic_scores

LEAST_IOU = 0.5  # of the masks of two views that are held for the same object
_GRID = 128  # pixels of the longer side at which masks are compared
_CHUNK = 16  # masks resized at a time


@dataclass
class View:
    """What the network says of one version of the image.

    Attributes:
        class_logits: [Q, K + 1].
        masks: mask logits, of the mirrored image if ``mirrored``.
        mirrored: left and right are exchanged.
    """

    class_logits: Tensor
    masks: ResizedMasks
    mirrored: bool

    def probability(self, queries: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[n, H, W] of the masks of ``queries`` [n], as the image lies; at ``size`` if it is given."""
        probability = (replace(self.masks, output_size=size) if size else self.masks)(queries).sigmoid()
        return probability.flip(-1) if self.mirrored else probability


class SegmentorWithTTA(nn.Module):
    """A model that sees each image in several versions; called as the model itself is.

    The versions are those of Detectron2: every one of ``min_sizes``, each as it is and, if ``flip``, mirrored; the
    image is the one that the model would get. Results lie in the original's frame.

    - Semantic, as published: the mean of the versions' scores. Any model that gives ``sem_seg`` will do.
    - Panoptic and instance, of models that predict masks: one version, the unmirrored one nearest in size to what
      the model would get, decides which queries there are. A query of another version stands for the same object if
      a one-to-one assignment (greatest sum of mask IoU and class affinity) pairs them and their masks' IoU is at
      least ``LEAST_IOU``. Class and mask probabilities are averaged over all versions that have a partner, and the
      usual post-processing follows. So labels and outlines become steadier; an object that the deciding version
      does not see at all is not added.

    The versions run one after the other. For panoptic and instance results the mask features of all of them are kept.

    Args:
        model: gives results in evaluation mode.
        min_sizes: lengths of the shorter side, in pixels; empty leaves the image at its size.
        max_size: greatest length of the longer side, in pixels.
        flip: mirrored versions too.
        image_format: of images that have to be read because the input has only their ``file_name``.

    Raises:
        TypeError: :meth:`forward` with a model that neither predicts masks nor gives a semantic result.
    """

    @configurable
    def __init__(
        self, model: nn.Module, *, min_sizes: Sequence[int], max_size: int, flip: bool, image_format: str
    ) -> None:
        super().__init__()
        self.model = unwrapped(model)
        self.resizes = [ResizeShortestEdge(size, max_size) for size in min_sizes]
        self.flip = flip
        self.image_format = image_format

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        return {
            "model": model,
            "min_sizes": cfg.TEST.AUG.MIN_SIZES,
            "max_size": cfg.TEST.AUG.MAX_SIZE,
            "flip": cfg.TEST.AUG.FLIP,
            "image_format": cfg.INPUT.FORMAT,
        }

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Results as the model gives them; inputs as it takes them, or with ``file_name`` in place of ``image``."""
        return [self._results(self._complete(inputs)) for inputs in batched_inputs]

    def _complete(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(inputs)
        if "image" not in result:
            pixels = read_image(result["file_name"], self.image_format)
            result["image"] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        for name, length in zip(("height", "width"), result["image"].shape[-2:], strict=True):
            result[name] = result.get(name) or length
        return result

    def _versions(self, inputs: dict[str, Any]) -> Iterator[tuple[Tensor, bool]]:
        """Images [3, h, w], and whether they are mirrored."""
        pixels = inputs["image"].permute(1, 2, 0).numpy()
        for resize in self.resizes or [T.NoOpTransform()]:
            transform = resize.get_transform(pixels) if isinstance(resize, T.Augmentation) else resize
            image = torch.from_numpy(np.ascontiguousarray(transform.apply_image(pixels).transpose(2, 0, 1)))
            yield image, False
            if self.flip:
                yield image.flip(-1), True

    def _results(self, inputs: dict[str, Any]) -> dict[str, Any]:
        scores: list[Tensor] = []  # their sum, once there is one
        views, sizes = [], []
        for image, mirrored in self._versions(inputs):
            version = {**inputs, "image": image}
            if isinstance(self.model, PredictsMasks):
                settings = self.model.post_processing
                class_logits, masks = self.model.predict([version])[0]
                score = semantic_scores(class_logits, masks, settings) if settings.semantic_on else None
                if settings.panoptic_on or settings.instance_on:
                    views.append(View(class_logits, masks, mirrored))
                    sizes.append(image.shape[-2] * image.shape[-1])
            else:
                score = self.model([version])[0].get("sem_seg")
                if score is None:
                    raise TypeError(f"{type(self.model).__name__} neither predicts masks nor gives `sem_seg`.")
            if score is not None:
                score = score.flip(-1) if mirrored else score
                scores = [scores[0] + score] if scores else [score]
        count = max(1, len(self.resizes)) * (1 + self.flip)
        result: dict[str, Any] = {"sem_seg": scores[0] / count} if scores else {}
        if views and isinstance(self.model, PredictsMasks):
            wanted = inputs["image"].shape[-2] * inputs["image"].shape[-1]
            # Mirrored versions follow their unmirrored ones, so that the first of the nearest is unmirrored.
            first = min(range(len(views)), key=lambda index: abs(sizes[index] - wanted))
            views.insert(0, views.pop(first))
            size = (inputs["height"], inputs["width"])
            result.update(object_results(*average(views), size, self.model.post_processing))
        return result


SemanticSegmentorWithTTA = SegmentorWithTTA  # the published name


@dataclass
class AveragedMasks:
    """Mask logits of the mean mask probability over views; a :data:`~mask2former.modeling.postprocess.MaskSource`.

    Attributes:
        views: V of them.
        partners: [V, Q] int64, which query of each view is that of the first; -1: none.
    """

    views: Sequence[View]
    partners: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        for view, partners in zip(self.views, self.partners[:, queries], strict=True):
            there = partners >= 0
            # One mask for each query, so that no mask has to be placed; those without partner count nothing.
            total = total + view.probability(partners.clamp(min=0)) * there[:, None, None]
        votes = (self.partners[:, queries] >= 0).sum(0)
        return torch.as_tensor(total / votes[:, None, None]).logit()


def average(views: Sequence[View]) -> tuple[Tensor, ResizedMasks | AveragedMasks]:
    """Class logits [Q, K + 1] and masks of the first view's queries, averaged over their partners in all views."""
    first = views[0]
    if len(views) == 1 and not first.mirrored:
        return first.class_logits, first.masks
    probabilities = [view.class_logits.float().softmax(-1) for view in views]
    height, width = first.masks.size
    scale = _GRID / max(height, width)
    grid = (max(1, round(height * scale)), max(1, round(width * scale)))
    masks = [_binary(view, grid) for view in views]
    own = torch.arange(len(first.class_logits), device=first.class_logits.device)
    others = [match(probabilities[0], masks[0], *one) for one in zip(probabilities[1:], masks[1:], strict=True)]
    partners = torch.stack([own, *others])
    there = partners >= 0
    chosen = torch.stack([p[q.clamp(min=0)] for p, q in zip(probabilities, partners, strict=True)])
    mean = (chosen * there[..., None]).sum(0) / there.sum(0)[:, None]
    return mean.log(), AveragedMasks(views, partners)


def _binary(view: View, grid: tuple[int, int]) -> Tensor:
    """float32 [Q, P], 1 inside the masks."""
    queries = torch.arange(len(view.class_logits), device=view.class_logits.device)
    return torch.cat([(view.probability(part, grid) >= 0.5).flatten(1).float() for part in queries.split(_CHUNK)])


def match(classes: Tensor, masks: Tensor, other_classes: Tensor, other_masks: Tensor) -> Tensor:
    """Which of the other queries sees the same object.

    Args:
        classes, other_classes: [Q, K + 1] probabilities.
        masks, other_masks: [Q, P] float, 0 or 1.

    Returns:
        [Q] int64; -1 where there is none.
    """
    common = masks @ other_masks.T
    iou = common / (masks.sum(1)[:, None] + other_masks.sum(1) - common).clamp(min=1)
    affinity = classes.sqrt() @ other_classes.sqrt().T  # Bhattacharyya's, 1 for equal distributions
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    rows, columns = linear_sum_assignment((iou + affinity).cpu().numpy(), maximize=True)
    partners = torch.full((len(classes),), -1)
    partners[torch.from_numpy(rows)] = torch.from_numpy(columns)
    partners = partners.to(masks.device)
    return torch.where(iou.gather(1, partners[:, None])[:, 0] >= LEAST_IOU, partners, -1)
