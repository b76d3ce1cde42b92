"""Test-time augmentation: run the network on an image at several sizes, and mirrored, and average its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from torch import Tensor, nn

from mask2former.data.images.read import read_image
from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.modeling.meta_arch import PredictsMasks, require_finite, unwrapped
from mask2former.modeling.postprocess import ResizedMasks, object_results, semantic_scores

LEAST_IOU = 0.5  # of the masks of two views that count as the same object
_GRID = 128  # pixels of the longer side at which masks are compared
_CHUNK = 16  # masks resized at a time


@dataclass
class View:
    """The network's output for one version of the image.

    Attributes:
        class_logits: [Q, K + 1].
        masks: mask logits, those of the mirrored image if ``mirrored``.
        mirrored: left and right are exchanged.
    """

    class_logits: Tensor
    masks: ResizedMasks
    mirrored: bool

    def probability(self, queries: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return the mask probabilities [n, H, W] of ``queries`` [n], not mirrored, at ``size`` if it is given."""
        probability = (replace(self.masks, output_size=size) if size else self.masks)(queries).sigmoid()
        return probability.flip(-1) if self.mirrored else probability


class SegmentorWithTTA(nn.Module):
    """Run a model on several versions of each image; called like the model itself.

    The versions are those of Detectron2: the image that the model would get, resized to each of ``min_sizes``, and if
    ``flip``, each mirrored too. Results have the original's size and are not mirrored.

    - Semantic, as published: the mean of the versions' scores. Any model that returns ``sem_seg`` will do.
    - Panoptic and instance, for models that predict masks: the unmirrored version nearest in size to what the model
      would get decides which queries there are. A query of another version stands for the same object if a one-to-one
      assignment (greatest sum of mask IoU and class affinity) pairs them and their masks' IoU is at least
      ``LEAST_IOU``. Class and mask probabilities are averaged over all versions that have a partner, and the usual
      post-processing follows. So labels and outlines become steadier, but an object that the deciding version misses
      is not added.

    The versions run one after the other. For panoptic and instance results, the mask features of all are kept.

    Args:
        model: in evaluation mode.
        min_sizes: lengths of the shorter side, in pixels; empty leaves the image at its size.
        max_size: greatest length of the longer side, in pixels.
        flip: use mirrored versions too.
        image_format: format in which images are read if the input has only their ``file_name``.

    Raises:
        TypeError: from :meth:`forward`, if the model neither predicts masks nor returns a semantic result.
        ValueError: from :meth:`forward`, if class logits are not finite; it names the image.
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
        """Return results in the model's form, for its inputs, or inputs with ``file_name`` in place of ``image``."""
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
        """Yield the versions [3, h, w], and whether they are mirrored."""
        pixels = inputs["image"].permute(1, 2, 0).numpy()
        for resize in self.resizes or [T.NoOpTransform()]:
            transform = resize.get_transform(pixels) if isinstance(resize, T.Augmentation) else resize
            image = torch.from_numpy(np.ascontiguousarray(transform.apply_image(pixels).transpose(2, 0, 1)))
            yield image, False
            if self.flip:
                yield image.flip(-1), True

    def _results(self, inputs: dict[str, Any]) -> dict[str, Any]:
        scores: list[Tensor] = []  # their sum, in a list of one
        views, sizes = [], []
        for image, mirrored in self._versions(inputs):
            version = {**inputs, "image": image}
            if isinstance(self.model, PredictsMasks):
                settings = self.model.post_processing
                if settings.window:
                    score = self.model.infer([version], replace(settings, semantic_labels=False))[0]["sem_seg"]
                else:
                    class_logits, masks = self.model.predict([version])[0]
                    require_finite([class_logits], [inputs])
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
    """Mask logits of the mean probability over views; a :data:`~mask2former.modeling.postprocess.MaskSource`.

    Attributes:
        views: the V views.
        partners: [V, Q] int64, the query of each view that stands for the first view's query; -1: none.
    """

    views: Sequence[View]
    partners: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        for view, partners in zip(self.views, self.partners[:, queries], strict=True):
            there = partners >= 0
            # One mask for each query keeps them aligned; that of a query without a partner is multiplied by 0.
            total = total + view.probability(partners.clamp(min=0)) * there[:, None, None]
        votes = (self.partners[:, queries] >= 0).sum(0)
        return torch.as_tensor(total / votes[:, None, None]).logit()


def average(views: Sequence[View]) -> tuple[Tensor, ResizedMasks | AveragedMasks]:
    """Average the class logits [Q, K + 1] and masks of the first view's queries over their partners in all views."""
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
    """Return the binary masks at the size of ``grid``, float32 [Q, P]."""
    queries = torch.arange(len(view.class_logits), device=view.class_logits.device)
    return torch.cat([(view.probability(part, grid) >= 0.5).flatten(1).float() for part in queries.split(_CHUNK)])


def match(classes: Tensor, masks: Tensor, other_classes: Tensor, other_masks: Tensor) -> Tensor:
    """Find for each query the other view's query that sees the same object.

    Args:
        classes, other_classes: [Q, K + 1] probabilities.
        masks, other_masks: [Q, P] float, 0 or 1.

    Returns:
        [Q] int64; -1 for none.
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
