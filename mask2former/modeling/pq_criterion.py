"""The training loss of MaX-DeepLab (arXiv 2012.00759) and kMaX-DeepLab (arXiv 2207.04044)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from mask2former.modeling.criterion import CRITERION_REGISTRY, SetCriterion
from mask2former.modeling.losses.pq_targets import on_grid
from mask2former.modeling.losses.slot_masks import on_one_grid
from mask2former.structures import MaskPrediction, MaskTargets


@CRITERION_REGISTRY.register()
class PQCriterion(SetCriterion):
    """Matching and terms on every fourth pixel of the targets, for masks that are a softmax over slots.

    Masks of each layer, whatever their stride, are resized to that grid where they are compared. Void pixels and
    classes of pixels are those of the targets; where they are not given, void is what no mask has.
    """

    def forward(self, prediction: MaskPrediction, targets: Sequence[MaskTargets]) -> dict[str, Tensor]:
        grids = [on_grid(target) for target in targets]
        layers = [on_one_grid(layer, grids[0].masks.shape[-2:]) for layer in (*prediction.aux, prediction)]
        return super().forward(replace(layers[-1], aux=layers[:-1]), grids)
