"""Made-up predictions and targets for the losses of masks that are a softmax over slots."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pq_oracle import Scene
from torch import Tensor

from mask2former.structures import FactoredMasks, MaskPrediction, MaskTargets

CLASSES = 5


@dataclass
class Case:
    """An image: its targets, the same for the oracle, and the leaves of its prediction."""

    target: MaskTargets
    scene: Scene


def prediction(
    generator: torch.Generator, images: int, slots: int, size: tuple[int, int], dtype: torch.dtype = torch.float64
) -> MaskPrediction:
    """A layer of random factors, all of which want a gradient."""

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    masks = FactoredMasks(random(images, slots, 4), random(images, 4, 1, *size), "softmax", align_corners=True)
    return MaskPrediction(random(images, slots, CLASSES + 1), masks)


def case(
    generator: torch.Generator, count: int, size: tuple[int, int], *, empty: float = 0.3, crowd: float = 0.0
) -> Case:
    """Masks that do not overlap; a share of pixels is in none, and of those some are a crowd, not void.

    With ``crowd`` the targets say which pixels are void and which class each has.
    """
    pixels = size[0] * size[1]
    owner = torch.randint(0, max(count, 1), (pixels,), generator=generator)
    owner[torch.rand(pixels, generator=generator) < empty] = -1
    if not count:
        owner[:] = -1
    owner[:count] = torch.arange(count)  # none is empty
    classes = torch.randint(0, CLASSES, (count,), generator=generator)
    masks = owner == torch.arange(count)[:, None]
    void = semantic = None
    scene = Scene(pixels, [set(mask.nonzero()[:, 0].tolist()) for mask in masks], classes.tolist())
    labels = torch.where(owner >= 0, classes[owner.clamp(min=0)] if count else owner, -1)
    if crowd:
        is_crowd = (owner < 0) & (torch.rand(pixels, generator=generator) < crowd)
        void, labels = (owner < 0) & ~is_crowd, torch.where(is_crowd, 2, labels)
        scene.void = set(void.nonzero()[:, 0].tolist())
        void, semantic = void.view(1, *size), labels.view(1, *size)
    scene.labels = labels.tolist()
    return Case(MaskTargets(classes, masks.view(count, 1, *size), void, semantic), scene)


def dense(layer: MaskPrediction, image: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Masks [N, P] and features [C, P] of an image on a grid, by resizing the features."""
    masks = layer.masks
    assert isinstance(masks, FactoredMasks)
    g = torch.nn.functional.interpolate(
        masks.mask_features[image : image + 1, :, 0], size=size, mode="bilinear", align_corners=True
    )[0].flatten(1)
    z = torch.stack([sum(f * row for f, row in zip(embed, g, strict=True)) for embed in masks.mask_embed[image]])
    return z.exp() / z.exp().sum(0), g


def leaves(layers: list[MaskPrediction]) -> list[Tensor]:
    found = []
    for layer in layers:
        assert isinstance(layer.masks, FactoredMasks)
        found += [layer.class_logits, layer.masks.mask_embed, layer.masks.mask_features]
    return found


def gradients(loss: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    if not loss.requires_grad:
        return [torch.zeros_like(leaf) for leaf in wanted]
    found = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(wanted, found, strict=True)]
