"""Losses of masks that are a softmax over slots, written from their formulas: one pixel, slot and target at a time.

Everything is float64. Targets are lists of sets of pixels; a pixel is an index of the grid.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor

EPS = 1e-5


@dataclass
class Scene:
    """One image on the grid: masks' pixels, their classes, and the void pixels."""

    pixels: int
    masks: list[set[int]]
    classes: list[int]
    void: set[int] | None = None
    labels: list[int] | None = None
    matched: list[tuple[int, int]] = field(default_factory=list)  # (slot, target)

    def share(self, target: int, pixel: int) -> float:
        owners = sum(pixel in mask for mask in self.masks)
        return 1 / owners if pixel in self.masks[target] else 0.0

    def matcher_void(self) -> set[int]:
        everywhere = set(range(self.pixels))
        return everywhere - set().union(*self.masks) if self.void is None else self.void

    def kept(self) -> set[int]:
        return set().union(*(self.masks[target] for _, target in self.matched))

    def loss_void(self) -> set[int]:
        return self.matcher_void() | (set().union(*self.masks) - self.kept())


def mean_of_nonzero(terms: list[Tensor]) -> Tensor:
    count = sum(float(term.detach()) != 0 for term in terms)
    return sum(terms, torch.zeros((), dtype=torch.float64)) / max(count, 1)


def dice(scene: Scene, m: Tensor, slot: int, target: int) -> Tensor:
    outside = scene.matcher_void()
    both = area = found = torch.zeros((), dtype=torch.float64)
    for p in range(scene.pixels):
        y, x = scene.share(target, p), m[slot, p] * (p not in outside)
        both, area, found = both + y * x, area + y, found + x
    return 2 * both / (area + found + 2 * EPS)


def similarity(scene: Scene, m: Tensor, p_class: Tensor) -> Tensor:
    values = [[p_class[n, c] * dice(scene, m, n, i) for i, c in enumerate(scene.classes)] for n in range(len(p_class))]
    return torch.tensor(values, dtype=torch.float64).reshape(len(p_class), len(scene.classes))


def best_total(sim: Tensor) -> float:
    slots, targets = sim.shape
    if slots < targets:
        return best_total(sim.T)
    return max(
        (float(sum(sim[n, i] for i, n in enumerate(order))) for order in itertools.permutations(range(slots), targets)),
        default=0.0,
    )


def class_loss(
    scene: Scene, log_p: Tensor, m: Tensor, alpha: float = 0.75, floor: float = EPS, void_share: bool = True
) -> Tensor:
    m = m.detach()
    of_slot = dict(scene.matched)
    terms = []
    for n in range(len(log_p)):
        if n in of_slot:
            weight = alpha * max(float(dice(scene, m, n, of_slot[n])), floor)
            terms.append(-weight * log_p[n, scene.classes[of_slot[n]]])
            continue
        outside = sum(float(m[n, p]) for p in scene.loss_void())
        beta = outside / (float(m[n].sum()) + EPS)
        terms.append(-(1 - alpha) * (max(beta, floor) if void_share else 1) * log_p[n, -1])
    return 3 * mean_of_nonzero(terms)


def mask_loss(
    scene: Scene, m: Tensor, p_class: Tensor, alpha: float = 0.75, floor: float = EPS, masking: bool = True
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    counted = scene.kept() if masking else set(range(scene.pixels))
    for n, i in scene.matched:
        both = area = found = torch.zeros((), dtype=torch.float64)
        for p in range(scene.pixels):
            y, x = scene.share(i, p), m[n, p] * (p in counted)
            both, area, found = both + y * x, area + y, found + x
        weight = max(float(p_class[n, scene.classes[i]]), floor)
        total = total + weight * (1 - (2 * both + 1) / (area + found + 1))
    return 3 * alpha / len(m) * total


def mask_id_loss(scene: Scene, m: Tensor) -> Tensor:
    terms = [
        sum((-scene.share(i, p) * m[n, p].log() for n, i in scene.matched), torch.zeros((), dtype=torch.float64))
        for p in sorted(scene.kept())
    ]
    return 0.3 * mean_of_nonzero(terms)


def pairwise_loss(scene: Scene, g: Tensor, drawn: list[int], tau: float = 0.3) -> Tensor:
    """For masks that do not overlap."""
    terms = []
    for j in drawn:
        own = [scene.masks[i] for _, i in scene.matched if j in scene.masks[i]]
        if not own:
            continue
        together = [i for i in drawn if i in own[0]]
        logits = torch.stack([g[:, i] @ g[:, j] / tau for i in drawn])
        log_soft = logits - logits.exp().sum().log()
        terms.append(-sum(log_soft[drawn.index(i)] for i in together) / len(together))
    return mean_of_nonzero(terms)


def mean_feature_loss(scene: Scene, g: Tensor, things: set[int], tau: float = 0.3) -> Tensor:
    """For masks that do not overlap."""
    means = []
    for mask in scene.masks:
        total = sum(g[:, p] for p in sorted(mask))
        assert isinstance(total, Tensor)
        means.append(total / (total * total).sum().sqrt())
    terms = []
    for i, mask in enumerate(scene.masks):
        for p in sorted(mask) if scene.classes[i] in things else ():
            weights = torch.stack([(mean @ g[:, p] / tau).exp() for mean in means])
            terms.append(-(weights[i] / weights.sum()).log())
    return mean_of_nonzero(terms)
